-- What is asked on each edge of the map: exchanges by operation, route and status.
CREATE TABLE IF NOT EXISTS ops_1m
(
    time DateTime('UTC') CODEC(Delta, ZSTD(1)),
    src_group LowCardinality(String) CODEC(ZSTD(1)),
    src_name LowCardinality(String) CODEC(ZSTD(1)),
    src_kind LowCardinality(String) CODEC(ZSTD(1)),
    dst_group LowCardinality(String) CODEC(ZSTD(1)),
    dst_name LowCardinality(String) CODEC(ZSTD(1)),
    dst_kind LowCardinality(String) CODEC(ZSTD(1)),
    verdict Enum8('unknown' = 0, 'forwarded' = 1, 'dropped' = 2, 'error' = 3, 'audit' = 4, 'redirected' = 5, 'traced' = 6, 'translated' = 7) CODEC(ZSTD(1)),
    proto UInt8 CODEC(ZSTD(1)),
    l7_protocol LowCardinality(String) CODEC(ZSTD(1)),
    l7_operation LowCardinality(String) CODEC(ZSTD(1)),
    l7_route LowCardinality(String) CODEC(ZSTD(1)),
    l7_status UInt16 CODEC(ZSTD(1)),
    failed Bool CODEC(ZSTD(1)),
    requests SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    latency AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Int64) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (time, dst_group, dst_name, src_group, src_name, src_kind, dst_kind, l7_protocol, l7_operation, l7_route, l7_status, failed, verdict, proto)
TTL time + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, auto_statistics_types = '', min_bytes_for_wide_part = 268435456, max_compress_block_size = 131072;

CREATE MATERIALIZED VIEW IF NOT EXISTS ops_1m_view TO ops_1m AS
SELECT
    toStartOfMinute(flow.time) AS time,
    src_group, src_name, src_kind, dst_group, dst_name, dst_kind, verdict, proto, l7_protocol, l7_operation, l7_route, l7_status,
    l7_error AS failed,
    count() AS requests,
    quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)(duration - l7_wait, l7_answered) AS latency
FROM flows_in AS flow
WHERE kind = 'l7' AND NOT secondary
GROUP BY time, src_group, src_name, src_kind, dst_group, dst_name, dst_kind, verdict, proto, l7_protocol, l7_operation, l7_route, l7_status, failed;
