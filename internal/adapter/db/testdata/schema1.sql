-- A data file as the schema of 0001 left it, with three events in it.
CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
CREATE TABLE terms (
    id        INTEGER NOT NULL PRIMARY KEY,
    dimension INTEGER NOT NULL,
    value     TEXT    NOT NULL
);
CREATE TABLE sources (
    id         INTEGER NOT NULL PRIMARY KEY,
    agent      TEXT    NOT NULL,
    boot       TEXT    NOT NULL,
    next_seq   BIGINT  NOT NULL,
    last_event BIGINT  NOT NULL
);
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
CREATE TABLE event_rates (
    workload INTEGER NOT NULL,
    span     INTEGER NOT NULL,
    start    BIGINT  NOT NULL,
    kind     INTEGER NOT NULL,
    events   BIGINT  NOT NULL,
    PRIMARY KEY (workload, span, start, kind)
) WITHOUT ROWID;
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
CREATE TABLE sessions (
    hash    BLOB    NOT NULL PRIMARY KEY,
    user_id INTEGER NOT NULL,
    csrf    TEXT    NOT NULL,
    created BIGINT  NOT NULL,
    expires BIGINT  NOT NULL,
    used    BIGINT  NOT NULL,
    address TEXT    NOT NULL
);
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
INSERT INTO goose_db_version (id, version_id, is_applied, tstamp) VALUES (1, 0, 1, '2026-11-23 22:30:40');
INSERT INTO goose_db_version (id, version_id, is_applied, tstamp) VALUES (2, 1, 1, '2026-11-23 22:30:40');
INSERT INTO counters (name, value) VALUES ('event', 4);
INSERT INTO counters (name, value) VALUES ('term', 16);
INSERT INTO counters (name, value) VALUES ('source', 2);
INSERT INTO terms (id, dimension, value) VALUES (1, 1, 'agent-a');
INSERT INTO terms (id, dimension, value) VALUES (2, 2, 'w1');
INSERT INTO terms (id, dimension, value) VALUES (3, 3, 'prod/shop/web');
INSERT INTO terms (id, dimension, value) VALUES (4, 4, 'process.exec');
INSERT INTO terms (id, dimension, value) VALUES (5, 5, '/bin/sh');
INSERT INTO terms (id, dimension, value) VALUES (6, 7, 'entered');
INSERT INTO terms (id, dimension, value) VALUES (7, 6, 'written');
INSERT INTO terms (id, dimension, value) VALUES (8, 8, 'bin');
INSERT INTO terms (id, dimension, value) VALUES (9, 8, 'sh');
INSERT INTO terms (id, dimension, value) VALUES (10, 8, 'c');
INSERT INTO terms (id, dimension, value) VALUES (11, 8, 'ä');
INSERT INTO terms (id, dimension, value) VALUES (12, 4, 'process.exit');
INSERT INTO terms (id, dimension, value) VALUES (13, 2, '');
INSERT INTO terms (id, dimension, value) VALUES (14, 3, '');
INSERT INTO terms (id, dimension, value) VALUES (15, 4, 'process.fork');
INSERT INTO sources (id, agent, boot, next_seq, last_event) VALUES (1, 'agent-a', 'boot-a', 8589934602, 3);
INSERT INTO events (id, source, agent, workload, grp, kind, executable, origin, entered, process_pid, process_start, time, received, words, payload) VALUES (1, 1, 1, 2, 3, 4, 5, 7, 1, 12, 34, 1777896000000000000, 1777896001000, 'shsh-cä', X'01018780808020070163E8070102020105092F656E7472792E7368042F7372768080808080202CFBCB90C00A040202020209050472756E630D2F7573722F62696E2F72756E63');
INSERT INTO events (id, source, agent, workload, grp, kind, executable, origin, entered, process_pid, process_start, time, received, words, payload) VALUES (2, 1, 1, 2, 3, 12, 5, 0, 0, 12, 34, 1777896000000000000, 1777896001000, 'sh', X'01018880808020070163E807010202029202120180F882AD16');
INSERT INTO events (id, source, agent, workload, grp, kind, executable, origin, entered, process_pid, process_start, time, received, words, payload) VALUES (3, 1, 1, 13, 14, 15, 5, 0, 0, 12, 34, 1777896000000000000, 1777896001000, 'sh', X'01018980808020070163E80701020200');
INSERT INTO blocks (id, events, min_time, max_time, min_received, max_received) VALUES (0, 3, 1777896000000000000, 1777896000000000000, 1777896001000, 1777896001000);
INSERT INTO postings (term, block) VALUES (1, 0);
INSERT INTO postings (term, block) VALUES (2, 0);
INSERT INTO postings (term, block) VALUES (3, 0);
INSERT INTO postings (term, block) VALUES (4, 0);
INSERT INTO postings (term, block) VALUES (5, 0);
INSERT INTO postings (term, block) VALUES (6, 0);
INSERT INTO postings (term, block) VALUES (7, 0);
INSERT INTO postings (term, block) VALUES (8, 0);
INSERT INTO postings (term, block) VALUES (9, 0);
INSERT INTO postings (term, block) VALUES (10, 0);
INSERT INTO postings (term, block) VALUES (11, 0);
INSERT INTO postings (term, block) VALUES (12, 0);
INSERT INTO postings (term, block) VALUES (13, 0);
INSERT INTO postings (term, block) VALUES (14, 0);
INSERT INTO postings (term, block) VALUES (15, 0);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (0, 60, 1777896000, 4, 1);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (0, 60, 1777896000, 12, 1);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (0, 60, 1777896000, 15, 1);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (0, 3600, 1777896000, 4, 1);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (0, 3600, 1777896000, 12, 1);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (0, 3600, 1777896000, 15, 1);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (2, 60, 1777896000, 4, 1);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (2, 60, 1777896000, 12, 1);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (2, 3600, 1777896000, 4, 1);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (2, 3600, 1777896000, 12, 1);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (13, 60, 1777896000, 15, 1);
INSERT INTO event_rates (workload, span, start, kind, events) VALUES (13, 3600, 1777896000, 15, 1);
INSERT INTO workloads (id, agent, grp, cluster, state, rank, created, ended, partial, search, body) VALUES ('w1', '', '', '', 'running', 0, 1777896000000000000, 0, 0, 'web


w1', '{"id":"w1","agent_id":"","name":"web","ecs":{},"group":"","image":{"reference":"","id":"sha256:w"},"state":"running","created":"2026-05-04T12:00:00Z","settings":{},"updated":"0001-01-01T00:00:00Z"}');
INSERT INTO users (id, name, role, password_hash, must_change, disabled, created, last_sign_in) VALUES (1, 'anna', 'administrator', '', 0, 0, 1777896000000000000, 0);
INSERT INTO audit (id, time, actor, address, action, target, outcome, detail) VALUES (1, 1777896000000000000, 'user:anna', '', 'x', '', '', '');
CREATE UNIQUE INDEX terms_value ON terms (dimension, value);
CREATE UNIQUE INDEX sources_boot ON sources (agent, boot);
CREATE INDEX events_process ON events (process_start, process_pid);
CREATE INDEX event_rates_start ON event_rates (span, start);
CREATE INDEX workloads_order   ON workloads (rank, created DESC, id, search);
CREATE INDEX workloads_state   ON workloads (state, rank, created DESC, id);
CREATE INDEX workloads_agent   ON workloads (agent, rank, created DESC, id);
CREATE INDEX workloads_group   ON workloads (grp, rank, created DESC, id);
CREATE INDEX workloads_cluster ON workloads (cluster, rank, created DESC, id);
CREATE INDEX workloads_ended   ON workloads (ended) WHERE ended > 0;
CREATE UNIQUE INDEX users_name ON users (name);
CREATE INDEX sessions_user    ON sessions (user_id);
CREATE INDEX sessions_expires ON sessions (expires);
CREATE UNIQUE INDEX tokens_owner ON tokens (owner, name);
CREATE UNIQUE INDEX tokens_hash  ON tokens (hash);
CREATE INDEX audit_time ON audit (time);
CREATE TRIGGER audit_append_only BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append only');
END;
