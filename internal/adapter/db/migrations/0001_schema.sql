-- +goose Up

-- Ids that are given out and never used again, whatever retention removes.
CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('event', 1), ('term', 1), ('source', 1);

-- Every text that events have in common, once. See term.go for the dimensions.
CREATE TABLE terms (
    id        INTEGER NOT NULL PRIMARY KEY,
    dimension INTEGER NOT NULL,
    value     TEXT    NOT NULL
);
CREATE UNIQUE INDEX terms_value ON terms (dimension, value);

-- One start of one agent, and the sequence number that is expected of it next.
CREATE TABLE sources (
    id         INTEGER NOT NULL PRIMARY KEY,
    agent      TEXT    NOT NULL,
    boot       TEXT    NOT NULL,
    next_seq   BIGINT  NOT NULL,
    last_event BIGINT  NOT NULL
);
CREATE UNIQUE INDEX sources_boot ON sources (agent, boot);

-- agent, workload, grp, kind, executable and origin are terms; received is in
-- milliseconds, every other time in nanoseconds since 1970.
CREATE TABLE events (
    id            INTEGER NOT NULL PRIMARY KEY,
    source        INTEGER NOT NULL,
    agent         INTEGER NOT NULL,
    workload      INTEGER NOT NULL,
    grp           INTEGER NOT NULL,
    kind          INTEGER NOT NULL,
    executable    INTEGER NOT NULL,
    origin        INTEGER NOT NULL,
    entered       INTEGER NOT NULL,
    process_pid   BIGINT  NOT NULL,
    process_start BIGINT  NOT NULL,
    time          BIGINT  NOT NULL,
    received      BIGINT  NOT NULL,
    words         TEXT    NOT NULL,
    payload       BLOB    NOT NULL
);
CREATE INDEX events_process ON events (process_start, process_pid);

-- A block is 256 neighbouring event ids. A posting says that a term occurs in
-- a block; it is the index behind every filter. See doc.go.
CREATE TABLE blocks (
    id           INTEGER NOT NULL PRIMARY KEY,
    events       INTEGER NOT NULL,
    min_time     BIGINT  NOT NULL,
    max_time     BIGINT  NOT NULL,
    min_received BIGINT  NOT NULL,
    max_received BIGINT  NOT NULL
);
CREATE TABLE postings (
    term  INTEGER NOT NULL,
    block INTEGER NOT NULL,
    PRIMARY KEY (term, block)
) WITHOUT ROWID;

-- Events counted by workload (0: all), span in seconds, start of the span in
-- seconds since 1970, and kind.
CREATE TABLE event_rates (
    workload INTEGER NOT NULL,
    span     INTEGER NOT NULL,
    start    BIGINT  NOT NULL,
    kind     INTEGER NOT NULL,
    events   BIGINT  NOT NULL,
    PRIMARY KEY (workload, span, start, kind)
) WITHOUT ROWID;
CREATE INDEX event_rates_start ON event_rates (span, start);

-- rank is 0 for a running workload and 1 for any other; body is JSON.
CREATE TABLE workloads (
    id       TEXT    NOT NULL PRIMARY KEY,
    agent    TEXT    NOT NULL,
    grp      TEXT    NOT NULL,
    cluster  TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    rank     INTEGER NOT NULL,
    created  BIGINT  NOT NULL,
    ended    BIGINT  NOT NULL,
    partial  INTEGER NOT NULL,
    search   TEXT    NOT NULL,
    body     TEXT    NOT NULL
);
-- With the searched text in it a search reads this index alone, not the bodies.
CREATE INDEX workloads_order   ON workloads (rank, created DESC, id, search);
CREATE INDEX workloads_state   ON workloads (state, rank, created DESC, id);
CREATE INDEX workloads_agent   ON workloads (agent, rank, created DESC, id);
CREATE INDEX workloads_group   ON workloads (grp, rank, created DESC, id);
CREATE INDEX workloads_cluster ON workloads (cluster, rank, created DESC, id);
CREATE INDEX workloads_ended   ON workloads (ended) WHERE ended > 0;

CREATE TABLE agents (
    id   TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE users (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL,
    role          TEXT    NOT NULL,
    password_hash TEXT    NOT NULL,
    must_change   INTEGER NOT NULL,
    disabled      INTEGER NOT NULL,
    created       BIGINT  NOT NULL,
    last_sign_in  BIGINT  NOT NULL
);
CREATE UNIQUE INDEX users_name ON users (name);

CREATE TABLE sessions (
    hash    BLOB    NOT NULL PRIMARY KEY,
    user_id INTEGER NOT NULL,
    csrf    TEXT    NOT NULL,
    created BIGINT  NOT NULL,
    expires BIGINT  NOT NULL,
    used    BIGINT  NOT NULL,
    address TEXT    NOT NULL
);
CREATE INDEX sessions_user    ON sessions (user_id);
CREATE INDEX sessions_expires ON sessions (expires);

CREATE TABLE tokens (
    id        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name      TEXT    NOT NULL,
    owner     TEXT    NOT NULL,
    hash      BLOB    NOT NULL,
    prefix    TEXT    NOT NULL,
    scopes    TEXT    NOT NULL,
    created   BIGINT  NOT NULL,
    expires   BIGINT  NOT NULL,
    last_used BIGINT  NOT NULL
);
CREATE UNIQUE INDEX tokens_owner ON tokens (owner, name);
CREATE UNIQUE INDEX tokens_hash  ON tokens (hash);

CREATE TABLE audit (
    id      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    time    BIGINT  NOT NULL,
    actor   TEXT    NOT NULL,
    address TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    target  TEXT    NOT NULL,
    outcome TEXT    NOT NULL,
    detail  TEXT    NOT NULL
);
CREATE INDEX audit_time ON audit (time);

-- No statement of this program changes a line; this holds whoever else tries.
-- +goose StatementBegin
CREATE TRIGGER audit_append_only BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append only');
END;
-- +goose StatementEnd

-- +goose Down
DROP TABLE audit;
DROP TABLE tokens;
DROP TABLE sessions;
DROP TABLE users;
DROP TABLE agents;
DROP TABLE workloads;
DROP TABLE event_rates;
DROP TABLE postings;
DROP TABLE blocks;
DROP TABLE events;
DROP TABLE sources;
DROP TABLE terms;
DROP TABLE counters;
