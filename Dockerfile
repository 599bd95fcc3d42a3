# The image: one binary, the names of Kafka's tools as links to it, a user of its own.
FROM rust:1-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p towline --bin towline && strip target/release/towline

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home appuser \
    && install -d -o appuser -g appuser /var/lib/kafka/data
COPY --from=build /src/target/release/towline /usr/bin/towline
COPY scripts/link-tools.sh /tmp/
RUN /tmp/link-tools.sh /usr/bin/towline /usr/bin /opt/kafka/bin && rm /tmp/link-tools.sh
# Programs on this machine reach the broker; those in other containers need listeners as in compose/.
ENV PATH=$PATH:/opt/kafka/bin KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092
USER appuser
WORKDIR /home/appuser
VOLUME /var/lib/kafka/data
EXPOSE 9092 8081 8083 8080
HEALTHCHECK --interval=2s --timeout=5s --start-period=5s --retries=15 CMD ["towline", "health"]
ENTRYPOINT ["towline"]
CMD ["up", "--data-dir", "/var/lib/kafka/data", "--registry", "0.0.0.0:8081", "--connect", "0.0.0.0:8083", "--ui", "0.0.0.0:8080"]
