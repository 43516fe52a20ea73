-- What policy decided. Flows of which nothing was decided have empty strings here, which cost next to nothing.
ALTER TABLE flows_in
    ADD COLUMN IF NOT EXISTS policy LowCardinality(String) AFTER drop_code,        -- policies that decided, one a line: "NetworkPolicy shop/allow-web"
    ADD COLUMN IF NOT EXISTS policy_match LowCardinality(String) AFTER policy,     -- what the rule that allowed looks at; empty: nothing was decided
    ADD COLUMN IF NOT EXISTS policy_rule Int32 AFTER policy_match,                 -- index of the rule that allowed, -1: none did
    ADD COLUMN IF NOT EXISTS policy_text LowCardinality(String) AFTER policy_rule, -- one line for a person
    MODIFY COLUMN swapped Bool ALIAS kind = 'drop' AND reply AND drop_reason != 'POLICY_DENIED'; -- a dropped reply, whose source is the connection's responder

ALTER TABLE flows
    ADD COLUMN IF NOT EXISTS policy LowCardinality(String) CODEC(ZSTD(1)) AFTER drop_code,
    ADD COLUMN IF NOT EXISTS policy_match LowCardinality(String) CODEC(ZSTD(1)) AFTER policy,
    ADD COLUMN IF NOT EXISTS policy_rule Int32 CODEC(T64, ZSTD(1)) AFTER policy_match,
    ADD COLUMN IF NOT EXISTS policy_text LowCardinality(String) CODEC(ZSTD(1)) AFTER policy_rule,
    MODIFY COLUMN swapped Bool ALIAS kind = 'drop' AND reply AND drop_reason != 'POLICY_DENIED';

DROP VIEW IF EXISTS flows_view;

CREATE MATERIALIZED VIEW flows_view TO flows AS SELECT * FROM flows_in;

-- A drop is counted by its packets: one by the kernel is one, one by policy counts what was denied since the connection's
-- last record. A verdict is no drop. Rows of before had one packet for each record that was dropped.
ALTER TABLE edges_1m
    ADD COLUMN IF NOT EXISTS policy LowCardinality(String) CODEC(ZSTD(1)) AFTER failed,
    ADD COLUMN IF NOT EXISTS drops SimpleAggregateFunction(sum, UInt64) DEFAULT if(verdict = 'dropped', records, 0) CODEC(T64, ZSTD(1)) AFTER requests,
    ADD COLUMN IF NOT EXISTS decisions SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)) AFTER drops, -- connections that policy decided on
    MODIFY ORDER BY (time, dst_group, dst_name, src_group, src_name, src_kind, dst_kind, proto, service_port, l7_protocol, verdict, drop_reason, drop_symbol, failed, policy);

DROP VIEW IF EXISTS edges_1m_view;

CREATE MATERIALIZED VIEW edges_1m_view TO edges_1m AS
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
    policy,
    count() AS records,
    countIf(kind = 'new') AS connections,
    countIf(kind = 'l7') AS requests,
    sum(if(kind = 'drop', greatest(flow.packets + flow.reply_packets, 1), 0)) AS drops,
    countIf(kind = 'verdict') AS decisions,
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
GROUP BY time, src_group, src_name, src_kind, dst_group, dst_name, dst_kind, proto, service_port, l7_protocol, verdict, drop_reason, drop_symbol, failed, policy;
