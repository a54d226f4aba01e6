-- +goose Up

-- Versions of the fleet's response policy: its rules.
CREATE TABLE response_policies (
    version INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    digest  TEXT    NOT NULL,
    text    TEXT    NOT NULL,
    actor   TEXT    NOT NULL,
    comment TEXT    NOT NULL,
    created BIGINT  NOT NULL
);

-- What rules have done. undo_at is when it is to be undone, 0 where it is not or
-- was. body is JSON.
CREATE TABLE response_runs (
    id       INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at       BIGINT  NOT NULL,
    rule     TEXT    NOT NULL,
    workload TEXT    NOT NULL,
    undo_at  BIGINT  NOT NULL,
    body     TEXT    NOT NULL
);
CREATE INDEX response_runs_rule     ON response_runs (rule, id);
CREATE INDEX response_runs_workload ON response_runs (workload, id);
CREATE INDEX response_runs_undo     ON response_runs (undo_at, id);

-- +goose Down
DROP TABLE response_runs;
DROP TABLE response_policies;
