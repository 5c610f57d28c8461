# The next release of the operator: the same code under another version.
FROM stoker.dev/operator:0.1.0
USER root
RUN sed -i 's/^Version: .*/Version: 0.1.1/' /opt/stoker/lib/python3*/site-packages/stoker*.dist-info/METADATA
USER 65532:65532
