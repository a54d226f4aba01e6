-- +goose Up

-- What one notice of a queue is about that stands for many: the subject of violations,
-- which fold while they wait; empty for all others.
ALTER TABLE notices ADD COLUMN fold TEXT NOT NULL DEFAULT '';
CREATE INDEX notices_fold ON notices (target, fold, id);

-- +goose Down
DROP INDEX notices_fold;
ALTER TABLE notices DROP COLUMN fold;
