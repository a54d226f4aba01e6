-- +goose Up

-- The weaknesses of which something ran when days were last counted, with the
-- severity that they were counted by.
CREATE TABLE running_weaknesses (
    weakness TEXT    NOT NULL PRIMARY KEY,
    severity INTEGER NOT NULL
) WITHOUT ROWID;

-- Where days were counted before, what runs now did so then, and is no news: the
-- empty name says so until days are counted again.
INSERT INTO running_weaknesses (weakness, severity)
SELECT '', 0 WHERE EXISTS (SELECT 1 FROM finding_days WHERE kind = 'vulnerability');

-- +goose Down
DROP TABLE running_weaknesses;
