-- +goose Up

-- Trails of CloudTrail that are read. body is JSON.
CREATE TABLE trails (
    name    TEXT   NOT NULL PRIMARY KEY,
    created BIGINT NOT NULL,
    body    TEXT   NOT NULL
) WITHOUT ROWID;

-- +goose Down
DROP TABLE trails;
