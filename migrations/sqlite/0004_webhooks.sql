-- Webhook endpoints (src/store/endpoints.rs). `settings`, `secrets` and `bound` are JSON, times are
-- milliseconds since 1970.
CREATE TABLE webhook_endpoints (
    name          TEXT   NOT NULL PRIMARY KEY,
    session       TEXT,
    origin        TEXT   NOT NULL CHECK (origin IN ('configuration', 'command', 'operator')),
    settings      TEXT   NOT NULL,
    secrets       TEXT   NOT NULL,
    state         TEXT   NOT NULL CHECK (state IN ('active', 'paused', 'disabled', 'removing')),
    reason        TEXT,
    revision      BIGINT NOT NULL,
    -- Every key that may be bound to the endpoint's queue, and who is changing that.
    bound         TEXT   NOT NULL,
    binder        TEXT,
    binder_until  BIGINT,
    -- The breaker: since when it is open, when the next probe is due, and who is at it.
    epoch         BIGINT NOT NULL,
    failing_since BIGINT,
    probe_at      BIGINT NOT NULL,
    probe_wait    BIGINT NOT NULL,
    prober        TEXT,
    probe_until   BIGINT,
    -- Which replica delivers in order.
    leader        TEXT,
    leader_until  BIGINT
);

-- Every attempt to deliver (src/store/deliveries.rs); written late and in batches, for people to look at.
CREATE TABLE webhook_deliveries (
    endpoint    TEXT   NOT NULL,
    event_id    TEXT   NOT NULL,
    event       TEXT   NOT NULL,
    attempt     BIGINT NOT NULL,
    request_id  TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    outcome     TEXT   NOT NULL,
    status      BIGINT,
    answer      TEXT
);

CREATE INDEX webhook_deliveries_of ON webhook_deliveries (endpoint, at);
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (at);
