package docker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// LocalImage is an image in the engine's list.
type LocalImage struct {
	ID      string   // the engine's, by which it is opened
	Names   []string // repository:tag, sorted
	Digests []string // repository@digest under which registries know it, sorted
	Created time.Time
	Size    int64 // bytes, of all its layers unpacked
}

// Images lists the images that the engine has, newest first. Those that are
// only layers under others are left out.
func (e *Engine) Images(ctx context.Context) ([]LocalImage, error) {
	c, err := dial(ctx, e.host)
	if err != nil {
		return nil, err
	}
	defer c.close()
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	var said []struct {
		ID          string `json:"Id"`
		RepoTags    []string
		RepoDigests []string
		Created     int64
		Size        int64
	}
	if err := c.get(ctx, "/images/json", nil, maxListBody, &said); err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var all []LocalImage
	for _, s := range said {
		if !isDigest(s.ID) {
			continue
		}
		all = append(all, LocalImage{
			ID: s.ID, Names: imageNames(s.RepoTags), Digests: imageNames(s.RepoDigests),
			Created: time.Unix(s.Created, 0).UTC(), Size: max(s.Size, 0),
		})
	}
	slices.SortFunc(all, func(a, b LocalImage) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}

// imageNames leaves out the words by which older engines say that there is none.
func imageNames(said []string) []string {
	var names []string
	for _, n := range said {
		if n != "<none>:<none>" && n != "<none>@<none>" && isImageName(n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}
