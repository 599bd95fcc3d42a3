#!/bin/sh
# link-tools.sh BINARY FOLDER [FOLDER_SH]: links named as Kafka's and Confluent's scripts in FOLDER, and with .sh in
# FOLDER_SH. A name that the binary does not answer to is an error.
set -eu
binary=$1 folder=$2 folder_sh=${3:-}
for name in kafka-topics kafka-console-producer kafka-console-consumer kafka-consumer-groups kafka-configs \
    kafka-get-offsets kafka-broker-api-versions kafka-cluster kafka-storage kafka-dump-log kafka-server-start \
    kafka-server-stop connect-distributed connect-standalone schema-registry-start zookeeper-server-start \
    zookeeper-server-stop confluent-hub; do
    ln -sf "$binary" "$folder/$name"
    "$folder/$name" --help >/dev/null
    if [ -n "$folder_sh" ]; then
        mkdir -p "$folder_sh"
        ln -sf "$binary" "$folder_sh/$name.sh"
    fi
done
