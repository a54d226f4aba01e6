-- +goose Up

-- What rules that look at calls of AWS learned over days. body is JSON of the rule.
CREATE TABLE detection_memories (
    rule TEXT NOT NULL PRIMARY KEY,
    body BLOB NOT NULL
) WITHOUT ROWID;

-- +goose Down
DROP TABLE detection_memories;
