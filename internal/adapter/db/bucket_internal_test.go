package db

import (
	"context"
	"log/slog"
	"slices"
	"testing"
)

func TestFolders(t *testing.T) {
	for path, want := range map[string][]string{
		"": nil, "/": nil, "/etc": nil, "/etc/": {"/etc/"}, "/etc/ssl/cert": {"/etc/", "/etc/ssl/"},
		"a/b": {"a/"}, "/a/b/c/d/e/f": {"/a/", "/a/b/", "/a/b/c/", "/a/b/c/d/"}, "//x": {"//"},
	} {
		var got []string
		eachFolder(path, func(f string) { got = append(got, f) })
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

// TestBucketList: over many segments without marks a seek offers blocks in
// vain, but always one further, and never leaves one out that is marked.
func TestBucketList(t *testing.T) {
	const bucket = 7
	d, err := Open(t.Context(), Options{Path: t.TempDir() + "/castellan.db"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	marked := []int64{3, 4, 255, 256, 9_000, 60_000, 60_255, 100_000}
	err = d.write(t.Context(), "test", func(ctx context.Context, w *writer) error {
		for _, b := range marked {
			if _, err := w.exec(ctx, "INSERT INTO marks (segment, bucket, block) VALUES (?, ?, ?)", segmentOf(b), bucket, b); err != nil {
				return err
			}
		}
		_, err := w.exec(ctx, "INSERT INTO marks (segment, bucket, block) VALUES (?, ?, ?)", 500, bucket+1, 500*segmentSize)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir        direction
		from, step int64
		bucket     int64
		want       []int64
	}{
		"down":             {down, 140_000, -1, bucket, marked},
		"up":               {up, 0, 1, bucket, marked},
		"down from one":    {down, 60_000, -1, bucket, marked[:6]},
		"up from one":      {up, 60_000, 1, bucket, marked[5:]},
		"up beyond":        {up, 900_000, 1, bucket, nil},
		"another bucket":   {down, 140_000, -1, bucket + 1, []int64{500 * segmentSize}},
		"no such bucket":   {up, 0, 1, bucket + 2, nil},
		"down from nought": {down, 0, -1, bucket, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var offered []int64
			err := d.read(t.Context(), "test", func(s *snapshot) error {
				l := &bucketList{s: s, pay: &budget{1 << 40}, dir: c.dir, bucket: c.bucket}
				for at := c.from; ; {
					b, ok, err := l.seek(t.Context(), at)
					if err != nil || !ok {
						return err
					}
					if c.dir.before(b, at) {
						t.Fatalf("block %d after %d", b, at)
					}
					again, _, err := l.seek(t.Context(), b)
					if err != nil || again != b {
						t.Fatalf("asked from %d: %d, %v", b, again, err)
					}
					offered = append(offered, b)
					at = b + c.step
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range c.want {
				if !slices.Contains(offered, b) {
					t.Errorf("block %d was left out", b)
				}
			}
			if vain := len(offered) - len(c.want); vain > 140_000/segmentSize/segmentsOnce+2 {
				t.Errorf("%d blocks were offered in vain", vain)
			}
		})
	}
}
