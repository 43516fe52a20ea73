-- The map, one row for each minute, pair of workloads, service and outcome. Traffic that is counted at another point is left out.
-- Bytes are those of connections: an exchange's are part of its connection's, a dropped packet went nowhere.
CREATE TABLE IF NOT EXISTS edges_1m
(
    time DateTime('UTC') CODEC(Delta, ZSTD(1)),
    src_group LowCardinality(String) CODEC(ZSTD(1)),
    src_name LowCardinality(String) CODEC(ZSTD(1)),
    src_kind LowCardinality(String) CODEC(ZSTD(1)),
    dst_group LowCardinality(String) CODEC(ZSTD(1)),
    dst_name LowCardinality(String) CODEC(ZSTD(1)),
    dst_kind LowCardinality(String) CODEC(ZSTD(1)),
    proto UInt8 CODEC(ZSTD(1)),
    service_port UInt16 CODEC(ZSTD(1)),
    l7_protocol LowCardinality(String) CODEC(ZSTD(1)),
    verdict Enum8('unknown' = 0, 'forwarded' = 1, 'dropped' = 2, 'error' = 3, 'audit' = 4, 'redirected' = 5, 'traced' = 6, 'translated' = 7) CODEC(ZSTD(1)),
    drop_reason LowCardinality(String) CODEC(ZSTD(1)),
    drop_symbol LowCardinality(String) CODEC(ZSTD(1)),
    failed Bool CODEC(ZSTD(1)),
    records SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    connections SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    requests SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    bytes SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reply_packets SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reply_bytes SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    latency AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Int64) CODEC(ZSTD(1)),
    rtt_sum SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    rtt_count SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    src_pods AggregateFunction(uniq, String) CODEC(ZSTD(1)),
    dst_pods AggregateFunction(uniq, String) CODEC(ZSTD(1)),
    first_seen SimpleAggregateFunction(min, DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    last_seen SimpleAggregateFunction(max, DateTime64(9, 'UTC')) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (time, dst_group, dst_name, src_group, src_name, src_kind, dst_kind, proto, service_port, l7_protocol, verdict, drop_reason, drop_symbol, failed)
TTL time + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, auto_statistics_types = '', min_bytes_for_wide_part = 268435456, max_compress_block_size = 131072;

CREATE MATERIALIZED VIEW IF NOT EXISTS edges_1m_view TO edges_1m AS
SELECT
    toStartOfMinute(flow.time) AS time,
    if(swapped, flow.dst_group, flow.src_group) AS src_group,
    if(swapped, flow.dst_name, flow.src_name) AS src_name,
    if(swapped, flow.dst_kind, flow.src_kind) AS src_kind,
    if(swapped, flow.src_group, flow.dst_group) AS dst_group,
    if(swapped, flow.src_name, flow.dst_name) AS dst_name,
    if(swapped, flow.src_kind, flow.dst_kind) AS dst_kind,
    proto, service_port, l7_protocol, verdict, drop_reason, drop_symbol,
    l7_error AS failed,
    count() AS records,
    countIf(kind = 'new') AS connections,
    countIf(kind = 'l7') AS requests,
    sumIf(flow.packets, kind NOT IN ('l7', 'drop')) AS packets,
    sumIf(flow.bytes, kind NOT IN ('l7', 'drop')) AS bytes,
    sumIf(flow.reply_packets, kind NOT IN ('l7', 'drop')) AS reply_packets,
    sumIf(flow.reply_bytes, kind NOT IN ('l7', 'drop')) AS reply_bytes,
    quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)(duration - l7_wait, l7_answered) AS latency,
    sum(handshake_rtt) AS rtt_sum,
    countIf(handshake_rtt > 0) AS rtt_count,
    uniqStateIf(toString(if(swapped, dst_pod, src_pod)), if(swapped, dst_pod, src_pod) != '') AS src_pods,
    uniqStateIf(toString(if(swapped, src_pod, dst_pod)), if(swapped, src_pod, dst_pod) != '') AS dst_pods,
    min(flow.time) AS first_seen,
    max(flow.time) AS last_seen
FROM flows_in AS flow
WHERE NOT secondary
GROUP BY time, src_group, src_name, src_kind, dst_group, dst_name, dst_kind, proto, service_port, l7_protocol, verdict, drop_reason, drop_symbol, failed;
