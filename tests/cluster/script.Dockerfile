# Applications of the tests. The command is a script without `exec`: at SIGTERM the shell ends at once, and its worker is killed with it.
FROM stoker.dev/examples/shop:0.1.0
COPY naps.py stubborn.py /app/
ENV STOKER_APP=naps:app
ENTRYPOINT ["sh", "-c", "stoker worker; echo ended"]
