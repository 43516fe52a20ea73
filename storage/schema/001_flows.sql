-- What is written: one row for each flow. Nothing is kept here; the views below and in the next files take it.
CREATE TABLE IF NOT EXISTS flows_in
(
    time DateTime64(9, 'UTC'),
    duration Int64,                              -- time - start, microseconds
    seq UInt64,
    cookie UInt64,
    kind LowCardinality(String),
    verdict Enum8('unknown' = 0, 'forwarded' = 1, 'dropped' = 2, 'error' = 3, 'audit' = 4, 'redirected' = 5, 'traced' = 6, 'translated' = 7),
    direction LowCardinality(String),
    point LowCardinality(String),
    reply Bool,
    secondary Bool,                              -- counted at another point: not in edges_1m and ops_1m
    node LowCardinality(String),
    node_cluster LowCardinality(String),
    node_boot UInt64,
    ifindex UInt32,
    pid UInt32,                                  -- pid, cookie, process: owner of the local socket, of dst's if process_dst
    process_pid UInt32,
    process_comm LowCardinality(String),
    process_dst Bool,
    src_group LowCardinality(String),            -- group and name: the card of the map
    src_name LowCardinality(String),
    src_kind LowCardinality(String),             -- workload kind, or endpoint kind where there is no workload
    src_endpoint LowCardinality(String),
    src_identity UInt32,
    src_namespace LowCardinality(String),
    src_pod LowCardinality(String),
    src_workload LowCardinality(String),
    src_workload_kind LowCardinality(String),
    src_host LowCardinality(String),             -- name outside of Kubernetes: DNS, service or host
    src_node LowCardinality(String),
    src_cluster LowCardinality(String),
    src_labels LowCardinality(String),           -- "key=value", sorted, one a line
    src_addr IPv6,
    src_port UInt16,
    dst_group LowCardinality(String),
    dst_name LowCardinality(String),
    dst_kind LowCardinality(String),
    dst_endpoint LowCardinality(String),
    dst_identity UInt32,
    dst_namespace LowCardinality(String),
    dst_pod LowCardinality(String),
    dst_workload LowCardinality(String),
    dst_workload_kind LowCardinality(String),
    dst_host LowCardinality(String),
    dst_node LowCardinality(String),
    dst_cluster LowCardinality(String),
    dst_labels LowCardinality(String),
    dst_addr IPv6,
    dst_port UInt16,
    service_port UInt16,                         -- the responder's, 0 where it would name no service
    proto UInt8,
    tcp_flags UInt8,
    icmp_type UInt8,
    icmp_code UInt8,
    packets UInt64,
    bytes UInt64,
    reply_packets UInt64,
    reply_bytes UInt64,
    handshake_rtt UInt32,                        -- microseconds
    drop_reason LowCardinality(String),
    drop_symbol LowCardinality(String),
    drop_code UInt32,
    l7_protocol LowCardinality(String),
    l7_operation LowCardinality(String),
    l7_resource String,
    l7_route LowCardinality(String),             -- resource with its variable parts replaced
    l7_host LowCardinality(String),
    l7_version LowCardinality(String),
    l7_traceparent String,
    l7_user_agent LowCardinality(String),
    l7_answers LowCardinality(String),           -- DNS, one a line
    l7_wait Int64,                               -- duration - latency, microseconds: mostly 0, so that time is stored once
    l7_status UInt16,
    l7_min_ttl UInt32,
    l7_answered Bool,
    l7_error Bool,
    path LowCardinality(String),                 -- the other observations, in time order, one a line: "point direction ifindex boot cluster node"
    path_lag Array(Int32),                       -- their time - time, microseconds
    path_start Array(Int32),                     -- their start - start, microseconds; empty if it is no exchange
    path_packets Array(Int64),                   -- their packets - packets; empty if nothing differs
    path_bytes Array(Int64),
    start DateTime64(9, 'UTC') ALIAS toDateTime64(time, 9, 'UTC') - toIntervalMicrosecond(duration),
    l7_latency Int64 ALIAS duration - l7_wait,   -- microseconds; -1: no response seen
    swapped Bool ALIAS verdict = 'dropped' AND reply -- a dropped reply, whose source is the connection's responder
)
ENGINE = Null;

-- All flows as they are. Rows of one edge lie together, of these the exchanges, and then those of one connection, so that columns repeat
-- themselves; a query for a span of time reads its 5-minute buckets. Statistics of columns would cost as much as the columns.
CREATE TABLE IF NOT EXISTS flows
(
    time DateTime64(9, 'UTC') CODEC(T64('bit'), ZSTD(1)),
    duration Int64 CODEC(T64, ZSTD(1)),
    seq UInt64 CODEC(T64('bit'), ZSTD(1)),
    cookie UInt64 CODEC(Delta, ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)),
    verdict Enum8('unknown' = 0, 'forwarded' = 1, 'dropped' = 2, 'error' = 3, 'audit' = 4, 'redirected' = 5, 'traced' = 6, 'translated' = 7) CODEC(ZSTD(1)),
    direction LowCardinality(String) CODEC(ZSTD(1)),
    point LowCardinality(String) CODEC(ZSTD(1)),
    reply Bool CODEC(ZSTD(1)),
    secondary Bool CODEC(ZSTD(1)),
    node LowCardinality(String) CODEC(ZSTD(1)),
    node_cluster LowCardinality(String) CODEC(ZSTD(1)),
    node_boot UInt64 CODEC(ZSTD(1)),
    ifindex UInt32 CODEC(T64, ZSTD(1)),
    pid UInt32 CODEC(T64, ZSTD(1)),
    process_pid UInt32 CODEC(T64, ZSTD(1)),
    process_comm LowCardinality(String) CODEC(ZSTD(1)),
    process_dst Bool CODEC(ZSTD(1)),
    src_group LowCardinality(String) CODEC(ZSTD(1)),
    src_name LowCardinality(String) CODEC(ZSTD(1)),
    src_kind LowCardinality(String) CODEC(ZSTD(1)),
    src_endpoint LowCardinality(String) CODEC(ZSTD(1)),
    src_identity UInt32 CODEC(ZSTD(1)),
    src_namespace LowCardinality(String) CODEC(ZSTD(1)),
    src_pod LowCardinality(String) CODEC(ZSTD(1)),
    src_workload LowCardinality(String) CODEC(ZSTD(1)),
    src_workload_kind LowCardinality(String) CODEC(ZSTD(1)),
    src_host LowCardinality(String) CODEC(ZSTD(1)),
    src_node LowCardinality(String) CODEC(ZSTD(1)),
    src_cluster LowCardinality(String) CODEC(ZSTD(1)),
    src_labels LowCardinality(String) CODEC(ZSTD(1)),
    src_addr IPv6 CODEC(ZSTD(1)),
    src_port UInt16 CODEC(Delta, ZSTD(1)), -- ascends, see ORDER BY
    dst_group LowCardinality(String) CODEC(ZSTD(1)),
    dst_name LowCardinality(String) CODEC(ZSTD(1)),
    dst_kind LowCardinality(String) CODEC(ZSTD(1)),
    dst_endpoint LowCardinality(String) CODEC(ZSTD(1)),
    dst_identity UInt32 CODEC(ZSTD(1)),
    dst_namespace LowCardinality(String) CODEC(ZSTD(1)),
    dst_pod LowCardinality(String) CODEC(ZSTD(1)),
    dst_workload LowCardinality(String) CODEC(ZSTD(1)),
    dst_workload_kind LowCardinality(String) CODEC(ZSTD(1)),
    dst_host LowCardinality(String) CODEC(ZSTD(1)),
    dst_node LowCardinality(String) CODEC(ZSTD(1)),
    dst_cluster LowCardinality(String) CODEC(ZSTD(1)),
    dst_labels LowCardinality(String) CODEC(ZSTD(1)),
    dst_addr IPv6 CODEC(ZSTD(1)),
    dst_port UInt16 CODEC(ZSTD(1)),
    service_port UInt16 CODEC(ZSTD(1)),
    proto UInt8 CODEC(ZSTD(1)),
    tcp_flags UInt8 CODEC(ZSTD(1)),
    icmp_type UInt8 CODEC(ZSTD(1)),
    icmp_code UInt8 CODEC(ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    reply_packets UInt64 CODEC(T64, ZSTD(1)),
    reply_bytes UInt64 CODEC(T64, ZSTD(1)),
    handshake_rtt UInt32 CODEC(T64, ZSTD(1)),
    drop_reason LowCardinality(String) CODEC(ZSTD(1)),
    drop_symbol LowCardinality(String) CODEC(ZSTD(1)),
    drop_code UInt32 CODEC(T64, ZSTD(1)),
    l7_protocol LowCardinality(String) CODEC(ZSTD(1)),
    l7_operation LowCardinality(String) CODEC(ZSTD(1)),
    l7_resource String CODEC(ZSTD(3)),
    l7_route LowCardinality(String) CODEC(ZSTD(1)),
    l7_host LowCardinality(String) CODEC(ZSTD(1)),
    l7_version LowCardinality(String) CODEC(ZSTD(1)),
    l7_traceparent String CODEC(ZSTD(1)),
    l7_user_agent LowCardinality(String) CODEC(ZSTD(1)),
    l7_answers LowCardinality(String) CODEC(ZSTD(1)),
    l7_wait Int64 CODEC(T64, ZSTD(1)),
    l7_status UInt16 CODEC(T64, ZSTD(1)),
    l7_min_ttl UInt32 CODEC(T64, ZSTD(1)),
    l7_answered Bool CODEC(ZSTD(1)),
    l7_error Bool CODEC(ZSTD(1)),
    path LowCardinality(String) CODEC(ZSTD(1)),
    path_lag Array(Int32) CODEC(T64('bit'), ZSTD(1)),
    path_start Array(Int32) CODEC(T64('bit'), ZSTD(1)),
    path_packets Array(Int64) CODEC(ZSTD(1)),
    path_bytes Array(Int64) CODEC(ZSTD(1)),
    INDEX trace lower(substring(l7_traceparent, 4, 32)) TYPE bloom_filter(0.01) GRANULARITY 1, -- a trace is asked for without a time
    start DateTime64(9, 'UTC') ALIAS toDateTime64(time, 9, 'UTC') - toIntervalMicrosecond(duration),
    l7_latency Int64 ALIAS duration - l7_wait,
    swapped Bool ALIAS verdict = 'dropped' AND reply
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (toStartOfFiveMinutes(time), dst_group, dst_name, src_group, src_name, kind = 'l7', src_addr, src_port, time)
TTL toDateTime(time) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, auto_statistics_types = '', min_bytes_for_wide_part = 268435456, max_compress_block_size = 131072;

CREATE MATERIALIZED VIEW IF NOT EXISTS flows_view TO flows AS SELECT * FROM flows_in;
