-- +goose Up

-- What one program did to files of one folder that are told one by one: the fingerprint
-- of what they are told as when there are many. Empty where each is told by itself.
ALTER TABLE behaviour_violations ADD COLUMN folder TEXT NOT NULL DEFAULT '';
CREATE INDEX behaviour_violations_folder ON behaviour_violations (grp, folder, permit);

-- +goose Down
DROP INDEX behaviour_violations_folder;
ALTER TABLE behaviour_violations DROP COLUMN folder;
