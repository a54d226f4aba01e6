// Package git is the door to git repositories: it hands over what any of their
// commits ever held, each content once. It runs the git program, which reads
// every form of repository there is, and lets it do nothing else: the settings
// of a repository are somebody else's, and must not make it start programs or
// speak to anybody.
//
//	r, err := git.Open(ctx, "/src/shop")
//	err = r.Each(ctx, func(b inventory.Blob, content io.Reader) error { … })
//
// It is not for remote repositories: clone first.
package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

const (
	// maxToken bounds a path or name in what git writes: no file system has longer
	// paths.
	maxToken = 64 << 10
	// maxBlobs bounds how many contents one history may have: the largest public
	// ones have some ten million.
	maxBlobs = 20_000_000
	// maxChanges bounds how often contents may be brought.
	maxChanges = 10 * maxBlobs
	// maxAnswer bounds what git says of an error.
	maxAnswer = 4 << 10
)

// limits are on one history.
type limits struct {
	blobs   int // contents
	changes int // how often contents are brought
}

// Repository is a repository on this machine.
type Repository struct {
	path    string
	program string
	limits  limits
	// Commits is how many commits Each has seen.
	Commits int
	// Blobs is how many contents it has handed over.
	Blobs int
	// Missing is how many the repository lacks, as a clone without contents does.
	Missing int
	// Shallow says that it lacks commits: it was cloned without its older ones.
	Shallow bool

	// since is the commit whose history is left out, "" for none; staged means what
	// the next commit will bring instead of any history.
	since  string
	staged bool
}

// Since leaves out what a revision and those before it have: what Each hands over
// then is what the commit in use has brought since. It returns fault.NotFound for a
// revision that the repository does not have.
func (r *Repository) Since(ctx context.Context, revision string) error {
	out, err := r.output(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil {
		return fault.New(fault.NotFound, "find revision %q: %w", revision, err).
			With("name a commit, branch or tag that the clone has; git fetch origin BRANCH brings one, and is then FETCH_HEAD")
	}
	r.since = strings.TrimSpace(string(out))
	return nil
}

// Staged has Each hand over what the next commit will bring: what is in the index
// and differs from the commit in use.
func (r *Repository) Staged() { r.staged = true }

// Open opens the repository that a folder is, or is in. It returns
// fault.Unavailable if there is no git program, and fault.NotFound if there is no
// repository.
func Open(ctx context.Context, path string) (*Repository, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, fault.New(fault.Unavailable, "find git: %w", err).With("install git: repositories are read with it")
	}
	r := &Repository{path: path, program: program, limits: limits{maxBlobs, maxChanges}}
	out, err := r.output(ctx, "rev-parse", "--absolute-git-dir")
	if err != nil {
		return nil, fault.New(fault.NotFound, "open repository %s: %w", path, err).With("name a folder that git clone made, or one below it")
	}
	r.path = filepath.Clean(strings.TrimSuffix(string(out), "\n"))
	return r, nil
}

// command is a run of git that may start no program, fetch nothing, ask nobody
// and change nothing, whatever the repository's settings say.
func (r *Repository) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, r.program, append([]string{"-C", r.path, "--no-pager", "--no-optional-locks", "--no-replace-objects",
		"-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "diff.external=", "-c", "core.attributesFile=/dev/null",
		"-c", "log.showSignature=false", "-c", "log.mailmap=false", "-c", "color.ui=false", "-c", "core.bigFileThreshold=64m", "-c", "fetch.bundleURI="}, args...)...)
	c.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_ALLOW_PROTOCOL=", "GIT_NO_LAZY_FETCH=1", "GIT_ATTR_NOSYSTEM=1", "GIT_OPTIONAL_LOCKS=0", "GIT_ALLOC_LIMIT=1g", "GIT_GRAFT_FILE=/dev/null"}
	if index := os.Getenv("GIT_INDEX_FILE"); r.staged && index != "" {
		// A hook is told of the index that is committed: with git commit FILE it is none
		// of the repository's own.
		if abs, err := filepath.Abs(index); err == nil {
			c.Env = append(c.Env, "GIT_INDEX_FILE="+abs)
		}
	}
	const grace = 5 * time.Second // for the pipes of a git that was stopped
	c.WaitDelay = grace
	return c
}

// output returns what a short command writes.
func (r *Repository) output(ctx context.Context, args ...string) ([]byte, error) {
	c := r.command(ctx, args...)
	var out, said bounded
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return nil, explained(err, &said)
	}
	return out.b, nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ b []byte }

func (w *bounded) Write(p []byte) (int, error) {
	w.b = append(w.b, p[:min(len(p), maxAnswer-len(w.b))]...)
	return len(p), nil
}

func explained(err error, said *bounded) error {
	if text := strings.TrimSpace(string(said.b)); text != "" {
		text, _, _ = strings.Cut(text, "\n")
		return fmt.Errorf("git: %s (%w)", text, err)
	}
	return fmt.Errorf("git: %w", err)
}

// Each calls take for every content of every commit that a branch, tag or stash
// leads to, unless Since or Staged means less; the oldest first, with the commit that brought it. Content that was
// brought several times to one path is handed over once; what stands at several
// is, at each: a path may say what a content is worth. What commits and tags say is
// handed over beside, each as it is met, without a path.
func (r *Repository) Each(ctx context.Context, take func(inventory.Blob, io.Reader) error) error {
	newest, err := r.newest(ctx)
	if err != nil {
		return err
	}
	out, err := r.output(ctx, "rev-parse", "--is-shallow-repository")
	if err != nil {
		return err
	}
	r.Shallow = strings.TrimSpace(string(out)) == "true"
	lacking, err := r.lacking(ctx)
	if err != nil {
		return err
	}
	contents, err := r.contents(ctx)
	if err != nil {
		return err
	}
	type standing struct{ id, path string }
	seen := map[standing]bool{}
	said := func(id string, c inventory.Commit) error {
		_, err := contents.take(inventory.Blob{ID: id, Commit: c, Message: true, Newest: true}, afterHead(take))
		return err
	}
	args, err := r.walk(ctx)
	if err != nil {
		return errors.Join(err, contents.close())
	}
	err = r.changes(ctx, args, said, func(b inventory.Blob) error {
		at := standing{b.ID, b.Path}
		if seen[at] {
			return nil
		}
		if len(seen) >= r.limits.blobs {
			return fault.New(fault.Exhausted, "history has more than %d contents", r.limits.blobs)
		}
		seen[at] = true
		if lacking[b.ID] {
			r.Missing++
			return nil
		}
		b.Newest = newest[b.ID] || r.staged
		has, err := contents.take(b, take)
		switch {
		case err != nil:
		case has:
			r.Blobs++
		default:
			r.Missing++
		}
		return err
	})
	if err == nil && r.since == "" && !r.staged { // a branch or the next commit brings no tags
		err = r.tags(ctx, said)
	}
	return errors.Join(err, contents.close())
}

// afterHead hands over what follows the head of a commit or tag.
func afterHead(take func(inventory.Blob, io.Reader) error) func(inventory.Blob, io.Reader) error {
	return func(b inventory.Blob, content io.Reader) error {
		r := bufio.NewReader(content)
		begins := true // of a line
		for {
			line, err := r.ReadSlice('\n')
			switch {
			case err == io.EOF:
				return nil // it says nothing
			case err != nil && !errors.Is(err, bufio.ErrBufferFull):
				return err
			case begins && len(line) == 1:
				return take(b, r)
			}
			begins = err == nil
		}
	}
}

// tags calls said for every tag that says something of its own.
func (r *Repository) tags(ctx context.Context, said func(id string, c inventory.Commit) error) error {
	return r.tokens(ctx, func(t *tokens) error {
		for {
			line, err := t.r.ReadSlice('\n')
			if err != nil {
				return err
			}
			fields := strings.Fields(string(line))
			if len(fields) < 3 || fields[0] != "tag" {
				continue
			}
			c := inventory.Commit{Hash: fields[2]}
			if len(fields) > 3 {
				if when, err := time.Parse(time.RFC3339, fields[3]); err == nil {
					c.When = when.UTC()
				}
			}
			if err := said(fields[1], c); err != nil {
				return err
			}
		}
	}, "for-each-ref", "--format=%(objecttype) %(objectname) %(*objectname) %(taggerdate:iso-strict)", "refs/tags")
}

// newest are the contents of the commit in use; none in a repository without one.
func (r *Repository) newest(ctx context.Context) (map[string]bool, error) {
	all := map[string]bool{}
	if _, err := r.output(ctx, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err != nil {
		if noneFound(err) {
			return all, nil
		}
		return nil, err
	}
	err := r.tokens(ctx, func(t *tokens) error {
		for {
			line, err := t.next()
			if err != nil {
				return err
			}
			// "mode type id\tpath"
			if fields := strings.Fields(line); len(fields) >= 3 {
				if len(all) >= r.limits.blobs {
					return fault.New(fault.Exhausted, "the newest commit has more than %d contents", r.limits.blobs)
				}
				all[strings.Clone(fields[2])] = true
			}
		}
	}, "ls-tree", "-r", "-z", "--full-tree", "HEAD")
	return all, err
}

// lacking are the objects that a clone was made without. A git that is asked for
// one ends, because it may not fetch it.
func (r *Repository) lacking(ctx context.Context) (map[string]bool, error) {
	if _, err := r.output(ctx, "config", "--get-regexp", `^(extensions\.partialclone|remote\..*\.promisor)$`); err != nil {
		if noneFound(err) {
			return nil, nil
		}
		return nil, err
	}
	all := map[string]bool{}
	err := r.tokens(ctx, func(t *tokens) error {
		for {
			line, err := t.r.ReadSlice('\n')
			if err != nil {
				return err
			}
			if id, ok := bytes.CutPrefix(line, []byte("?")); ok {
				if len(all) >= r.limits.blobs {
					return fault.New(fault.Exhausted, "the clone lacks more than %d contents", r.limits.blobs)
				}
				all[string(bytes.TrimSpace(id))] = true
			}
		}
	}, "rev-list", "--objects", "--no-object-names", "--missing=print", "--all")
	return all, err
}

// noneFound says that git ended as it does where there is nothing of what was asked
// for.
func noneFound(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == 1
}

// walk is the command of git that lists what is to be looked at.
func (r *Repository) walk(ctx context.Context) ([]string, error) {
	raw := []string{"--no-renames", "--no-ext-diff", "--no-textconv", "--raw", "-z", "--no-abbrev"}
	if r.staged {
		before := "HEAD"
		if _, err := r.output(ctx, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err != nil {
			if !noneFound(err) {
				return nil, err
			}
			// Before the first commit there is nothing: the empty tree, whose id depends
			// on the repository's hash.
			out, err := r.output(ctx, "hash-object", "-t", "tree", "/dev/null")
			if err != nil {
				return nil, err
			}
			before = strings.TrimSpace(string(out))
		}
		return append(append([]string{"diff-index", "--cached"}, raw...), before), nil
	}
	log := append([]string{"log", "--reverse", "--date-order", "--encoding=UTF-8", "--no-mailmap", "-O/dev/null", "--diff-merges=first-parent", "--root",
		"--format=%x01%H%x00%an%x00%aI"}, raw...)
	if r.since != "" {
		return append(log, r.since+"..HEAD"), nil
	}
	return append(log, "--all"), nil
}

// changes calls said for every commit, and one for every content that it adds or
// changes, as args list them.
func (r *Repository) changes(ctx context.Context, args []string, said func(id string, c inventory.Commit) error, one func(inventory.Blob) error) error {
	return r.tokens(ctx, func(t *tokens) error {
		var commit inventory.Commit
		for n := 0; ; {
			s, err := t.next()
			if err != nil {
				return err
			}
			switch s = strings.TrimPrefix(s, "\n"); {
			case strings.HasPrefix(s, "\x01"):
				if commit, err = t.commit(s[1:]); err != nil {
					return err
				}
				r.Commits++
				if err := said(commit.Hash, commit); err != nil {
					return err
				}
			case strings.HasPrefix(s, ":"):
				path, err := t.next()
				if err != nil {
					return err
				}
				// ":mode mode id id status"
				fields := strings.Fields(s)
				if len(fields) < 5 || !isFile(fields[1]) || strings.Trim(fields[3], "0") == "" {
					continue
				}
				if n++; n > r.limits.changes {
					return fault.New(fault.Exhausted, "history has more than %d changes", r.limits.changes)
				}
				if err := one(inventory.Blob{ID: strings.Clone(fields[3]), Path: path, Commit: commit}); err != nil {
					return err
				}
			}
		}
	}, args...)
}

// isFile says that a mode is that of a file, not of a link or another repository.
func isFile(mode string) bool { return strings.HasPrefix(mode, "100") }

// tokens are the texts that git writes, each ended by a zero byte.
type tokens struct{ r *bufio.Reader }

// next returns io.EOF after the last.
func (t *tokens) next() (string, error) {
	var all []byte
	for {
		b, err := t.r.ReadSlice(0)
		if len(all)+len(b) > maxToken {
			return "", errors.New("git wrote a longer name than there can be")
		}
		all = append(all, b...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return "", err
		}
		return string(all[:len(all)-1]), nil
	}
}

// commit reads what follows a commit's id.
func (t *tokens) commit(hash string) (inventory.Commit, error) {
	author, err := t.next()
	if err != nil {
		return inventory.Commit{}, unexpected(err)
	}
	date, err := t.next()
	if err != nil {
		return inventory.Commit{}, unexpected(err)
	}
	when, err := time.Parse(time.RFC3339, strings.TrimSpace(date))
	if err != nil {
		when = time.Time{} // a date that is none: commits may say what they like
	}
	const enough = 256
	return inventory.Commit{Hash: hash, Author: strings.ToValidUTF8(author[:min(len(author), enough)], "\uFFFD"), When: when.UTC()}, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// tokens runs git and reads what it writes until its end.
func (r *Repository) tokens(ctx context.Context, read func(*tokens) error, args ...string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	c := r.command(ctx, args...)
	var said bounded
	c.Stderr = &said
	out, err := c.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start git: %w", err)
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start git: %w", err)
	}
	readErr := read(&tokens{bufio.NewReaderSize(out, maxToken)})
	if readErr == io.EOF {
		readErr = nil
	}
	if readErr != nil {
		stop()
		c.Wait() //nolint:errcheck // it was stopped because of the other error
		return readErr
	}
	if err := c.Wait(); err != nil {
		return explained(err, &said)
	}
	return nil
}

// contents is a git that answers with contents.
type contents struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	said bounded
}

func (r *Repository) contents(ctx context.Context) (*contents, error) {
	c := &contents{cmd: r.command(ctx, "cat-file", "--batch")}
	c.cmd.Stderr = &c.said
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start git: %w", err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start git: %w", err)
	}
	c.in, c.out = in, bufio.NewReaderSize(out, maxToken)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start git: %w", err)
	}
	return c, nil
}

// take asks for one content and hands it over. has is false where the repository
// lacks it.
func (c *contents) take(b inventory.Blob, take func(inventory.Blob, io.Reader) error) (has bool, err error) {
	if _, err := io.WriteString(c.in, b.ID+"\n"); err != nil {
		return false, fmt.Errorf("ask git: %w", err)
	}
	head, err := c.out.ReadSlice('\n')
	if err != nil {
		return false, fmt.Errorf("read from git: %w", unexpected(err))
	}
	// "id type size", or "id missing" in a clone that lacks it.
	fields := bytes.Fields(head)
	if len(fields) != 3 {
		return false, nil
	}
	if b.Size, err = strconv.ParseInt(string(fields[2]), 10, 64); err != nil {
		return false, fmt.Errorf("read from git: size of %s: %w", b.ID, err)
	}
	content := io.LimitReader(c.out, b.Size)
	if err := take(b, content); err != nil {
		return true, err
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return false, fmt.Errorf("read from git: %w", err)
	}
	if _, err := c.out.Discard(1); err != nil { // the line's end after it
		return false, fmt.Errorf("read from git: %w", unexpected(err))
	}
	return true, nil
}

func (c *contents) close() error {
	c.in.Close()               //nolint:errcheck // it ends by that
	io.Copy(io.Discard, c.out) //nolint:errcheck // what was not wanted
	if err := c.cmd.Wait(); err != nil {
		return explained(err, &c.said)
	}
	return nil
}
