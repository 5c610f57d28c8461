#!/bin/bash
# Two tasks from a shell, and their results: bash send.sh ID '{"text": "..."}'
set -euo pipefail
id=$1 payload=$2
gateway=${STOKER_GATEWAY:-http://localhost:8080}

# By REST: what is wrong is told at once.
answer=$(curl -sS --fail-with-body "$gateway/v1/tasks" --json \
  "{\"task\": \"count_words\", \"queue\": \"words\", \"id\": \"$id-rest\", \"payload\": $payload}") || { echo "$answer" >&2; exit 1; }

# By XADD: straight into Redis, also while no gateway is there.
redis-cli -e -u "${STOKER_REDIS_URL:-redis://localhost:6379/0}" XADD '{stoker:words}:inbox' '*' \
  task count_words id "$id-xadd" payload "$payload" > /dev/null

for task in "$id-rest" "$id-xadd"; do
  for _ in {1..300}; do
    status=$(curl -s "$gateway/v1/tasks/$task?queue=words")
    [[ $status =~ \"state\":\"(succeeded|dead|cancelled)\" ]] && break
    sleep 0.2
  done
  [[ $status =~ \"result\":\{\"value\":(.*),\"seconds\" ]] || { echo "$task: $status" >&2; exit 1; }
  echo "$task ${BASH_REMATCH[1]}"
done
