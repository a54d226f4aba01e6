package db

import (
	"context"
	"database/sql"

	"github.com/castellan-security/castellan/internal/store"
)

// nameDigest notes that an image is called by a digest, of a manifest or an index.
func (w *writer) nameDigest(ctx context.Context, image, digest string) error {
	if digest == "" {
		return nil
	}
	_, err := w.exec(ctx, `INSERT OR IGNORE INTO image_digests (digest, image)
		SELECT ?, ? WHERE (SELECT count(image) FROM image_digests WHERE image = ?) < ?`, digest, image, image, maxImageDigests)
	return err
}

// maxImageDigests bounds the digests that are kept of an image: as many repositories, and
// indexes, hold it. What an agent tells must not fill the store.
const maxImageDigests = 64

// ImagesNamed implements store.ImageNames.
func (d *DB) ImagesNamed(ctx context.Context, digest string) (images []store.Image, entries []store.RegistryImage, err error) {
	err = d.read(ctx, "read what a digest names", func(s *snapshot) error {
		entries, err = s.entries(ctx, "SELECT "+entryColumns+" FROM registry_images WHERE digest = ? ORDER BY idle, age DESC, number DESC LIMIT ?",
			[]any{digest, store.MaxPlatforms})
		if err != nil {
			return err
		}
		return s.query(ctx, "SELECT "+imageColumns+` FROM images WHERE id IN
			(SELECT ? UNION ALL SELECT image FROM image_digests WHERE digest = ?) LIMIT ?`,
			[]any{digest, digest, store.MaxPlatforms}, func(r *sql.Rows) (bool, error) {
				v, err := scanImage(r.Scan)
				images = append(images, v)
				return true, err
			})
	})
	return images, entries, err
}
