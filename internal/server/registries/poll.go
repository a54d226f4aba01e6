package registries

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

// Limits of what one registry may make this server hold.
const (
	maxRepositories = 20_000
	maxImages       = 50_000 // of one repository: some 20 MiB
	maxTags         = 100    // of one image; nobody reads more
	// giveUpAfter is how many repositories in a row may fail before the rest of a
	// look is left for the next: the registry is down, or knows us no more.
	giveUpAfter = 5
)

// partly says that some repositories could not be listed, or not all of them.
type partly struct {
	failed, of int
	registry   string
	first      error
	next       map[string]time.Time // when each of them is tried again
}

func (p *partly) Error() string {
	return fmt.Sprintf("%d of %d repositories of registry %s could not be listed; the first: %v", p.failed, p.of, p.registry, p.first)
}

func (p *partly) Unwrap() error { return p.first }

// unlisted says that a repository could not be listed, or not all of it.
type unlisted struct {
	err  error
	read bool // some of it was
	next time.Time
}

func (u *unlisted) Error() string { return u.err.Error() }

func (u *unlisted) Unwrap() error { return u.err }

// notListed is the error of a repository as it is kept.
func notListed(r store.RegistryRepository) error {
	return fault.New(fault.Unavailable, "repository %s: %s", r.Name, r.Error).With(r.Remedy)
}

// lookAtAll lists all repositories of a registry.
func (s *Service) lookAtAll(ctx context.Context, l look) error {
	names, err := s.repositories(ctx, l.r)
	if len(l.r.Named) > 0 && (fault.Is(err, fault.Unsupported) || fault.Is(err, fault.NotFound)) {
		// It lists none to anybody. Beside those that are named it may have told of
		// others that are meant.
		names, err = s.knownBeside(ctx, l.r, names)
	}
	if err != nil && len(names) == 0 {
		return fmt.Errorf("list the repositories of registry %s: %w", l.r.Name, err)
	}
	// What it told of may be in no catalogue, or not yet.
	names = append(names, l.some...)
	slices.Sort(names)
	names = slices.Compact(names)
	listErr := s.listEach(ctx, l, names)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil { // what was named is listed, and what else there is, is not known
		return fmt.Errorf("list the repositories of registry %s: %w", l.r.Name, err)
	}
	gone, err := s.st.EndRepositories(ctx, l.r.Name, names, s.clock())
	if err != nil {
		return fmt.Errorf("end repositories of registry %s: %w", l.r.Name, err)
	}
	if gone > 0 {
		s.log.Info("images are gone with their repositories", "registry", l.r.Name, "images", gone)
	}
	return listErr
}

// repositories returns the names of those that are watched. With an error they
// are those that are known without the registry.
func (s *Service) repositories(ctx context.Context, r asset.Registry) ([]string, error) {
	names := slices.Clone(r.Named)
	lister, err := s.lister(r)
	if err != nil {
		return nil, err
	}
	for name, err := range lister.Repositories(ctx, r) {
		if err != nil {
			return names, err
		}
		if !asset.IsRepository(name) || !chooses(r.Repositories, name) {
			continue
		}
		if len(names) >= maxRepositories {
			return names, fault.New(fault.Invalid, "it has more than %d repositories", maxRepositories).
				With("choose among them: give the registry patterns of repositories, or configure it twice with different ones")
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// knownBeside adds the repositories that are known and that a pattern means.
func (s *Service) knownBeside(ctx context.Context, r asset.Registry, names []string) ([]string, error) {
	q := store.RegistryRepositoryQuery{Registry: r.Name, Limit: store.MaxPage}
	for {
		page, err := s.st.RegistryRepositories(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("read the repositories of registry %s: %w", r.Name, err)
		}
		for _, k := range page {
			if len(r.Repositories) > 0 && chooses(r.Repositories, k.Name) {
				names = append(names, k.Name)
			}
		}
		if len(page) < store.MaxPage {
			slices.Sort(names)
			return slices.Compact(names), nil
		}
		q.Offset += len(page)
	}
}

func (s *Service) lister(r asset.Registry) (Lister, error) {
	if l := s.doors.Listers[r.Kind]; l != nil {
		return l, nil
	}
	return nil, fault.New(fault.Unsupported, "this server has no way to ask a registry of kind %s", r.Kind).
		With("use the kinds that castellan registries add --help names")
}

// lookAtSome lists the repositories that a registry told of.
func (s *Service) lookAtSome(ctx context.Context, l look) error {
	l.force = true // it lives, if it tells of a change
	return s.listEach(ctx, l, l.some)
}

// listEach lists repositories, one after the other.
func (s *Service) listEach(ctx context.Context, l look, names []string) error {
	failing, err := s.failing(ctx, l.r.Name)
	if err != nil {
		return err
	}
	some := &partly{of: len(names), registry: l.r.Name, next: map[string]time.Time{}}
	inARow := 0
	for _, name := range names {
		before := failing[name]
		if !l.force && before.Next.After(s.clock()) && !slices.Contains(l.some, name) {
			some.add(name, before.Next, notListed(before))
			continue
		}
		err := s.list(ctx, l.r, name, before.Tries)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			inARow = 0
			continue
		}
		next := s.clock().Add(firstBackoff)
		if u := (*unlisted)(nil); errors.As(err, &u) {
			next = u.next
			if u.read {
				inARow = -1
			}
		}
		inARow++
		some.add(name, next, fmt.Errorf("repository %s: %w", name, err))
		// Who asks too much is not asked more; who is down, not asked for the rest.
		if fault.Is(err, fault.Exhausted) || inARow >= giveUpAfter {
			return fmt.Errorf("look at registry %s: %w", l.r.Name, some.first)
		}
	}
	if some.failed > 0 {
		return some
	}
	return nil
}

func (p *partly) add(repository string, next time.Time, err error) {
	p.failed++
	p.next[repository] = next
	if p.first == nil {
		p.first = err
	}
}

// failing returns the repositories of which the last listing failed.
func (s *Service) failing(ctx context.Context, registry string) (map[string]store.RegistryRepository, error) {
	all := map[string]store.RegistryRepository{}
	q := store.RegistryRepositoryQuery{Registry: registry, Limit: store.MaxPage}
	for {
		page, err := s.st.RegistryRepositories(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("read the repositories of registry %s: %w", registry, err)
		}
		for _, r := range page {
			if r.Error == "" {
				return all, nil // those that failed come first
			}
			all[r.Name] = r
		}
		if len(page) < store.MaxPage {
			return all, nil
		}
		q.Offset += len(page)
	}
}

// list lists one repository and stores what it holds, and why that is not all. An
// error of the registry is an *unlisted.
func (s *Service) list(ctx context.Context, r asset.Registry, repository string, tries int) error {
	l := store.Listing{Registry: r.Name, Repository: repository, At: s.clock()}
	var err error
	l.Images, err = s.collect(ctx, r, repository)
	if fault.Is(err, fault.NotFound) && len(l.Images) == 0 && !slices.Contains(r.Named, repository) {
		err = nil // its last image was deleted, and with it the repository
	}
	if cerr := s.choose(ctx, r, &l); err == nil {
		err = cerr
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.Partial = err != nil
	if !l.Partial || len(l.Images) > 0 {
		if serr := s.put(ctx, l); serr != nil {
			return serr
		}
	}
	if err == nil {
		return nil
	}
	if len(l.Images) > 0 {
		err = fmt.Errorf("only %d images could be listed: %w", len(l.Images), err)
	}
	s.log.Warn("repository not listed", "registry", r.Name, "repository", repository, "error", err)
	next := l.At.Add(jitter(backoff(tries+1, maxBackoff)))
	ferr := s.st.FailListing(ctx, store.RegistryRepository{
		Registry: r.Name, Name: repository, Error: said(err), Remedy: fault.Remedy(err), Tries: tries + 1, Next: next,
	})
	if ferr != nil && !fault.Is(ferr, fault.NotFound) {
		return fmt.Errorf("note that repository %s was not listed: %w", repository, ferr)
	}
	return &unlisted{err: err, read: len(l.Images) > 0, next: next}
}

// put stores what a repository holds.
func (s *Service) put(ctx context.Context, l store.Listing) error {
	change, err := s.st.PutListing(ctx, l)
	if fault.Is(err, fault.NotFound) {
		return nil // the registry is not watched any more
	}
	if err != nil {
		return fmt.Errorf("store what repository %s holds: %w", l.Repository, err)
	}
	if change.New > 0 {
		s.nudgeScans()
	}
	if change != (store.ListingChange{}) {
		s.log.Info("repository listed", "registry", l.Registry, "repository", l.Repository, "images", len(l.Images),
			"new", change.New, "gone", change.Gone)
		s.scanning.Touch()
	}
	return nil
}

// collect returns the images of a repository with the tags that are wanted. With
// an error they are those that could be read.
func (s *Service) collect(ctx context.Context, r asset.Registry, repository string) ([]store.ListedImage, error) {
	lister, err := s.lister(r)
	if err != nil {
		return nil, err
	}
	want := func(tag string) bool { return asset.IsTag(tag) && chooses(r.Tags, tag) }
	var all []store.ListedImage
	at := map[string]int{}
	var wrong error
	for m, err := range lister.Images(ctx, r, repository, want) {
		if wrong = err; err != nil {
			break
		}
		if inventory.CheckDigest(m.Digest) != nil {
			continue // of an algorithm that nothing here can verify
		}
		i, known := at[m.Digest]
		if !known {
			if len(all) >= maxImages {
				wrong = fault.New(fault.Invalid, "it has more than %d images", maxImages).
					With("choose among them: give the registry patterns of tags")
				break
			}
			i = len(all)
			at[m.Digest] = i
			all = append(all, store.ListedImage{RegistryImage: asset.RegistryImage{Repository: repository, Digest: m.Digest}})
		}
		e := &all[i]
		for _, t := range m.Tags {
			if want(t) && len(e.Tags) < maxTags && !slices.Contains(e.Tags, t) {
				e.Tags = append(e.Tags, t)
			}
		}
		e.Pushed, e.Size = later(e.Pushed, m.Pushed), max(e.Size, m.Size)
	}
	for i := range all {
		slices.Sort(all[i].Tags)
	}
	return all, wrong
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
