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
	// maxAnswer bounds what git says of an error.
	maxAnswer = 4 << 10
)

// Repository is a repository on this machine.
type Repository struct {
	path    string
	program string
	// Commits is how many commits Each has seen.
	Commits int
	// Blobs is how many contents it has handed over.
	Blobs int
}

// Open opens the repository that a folder is, or is in. It returns
// fault.Unavailable if there is no git program, and fault.NotFound if there is no
// repository.
func Open(ctx context.Context, path string) (*Repository, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, fault.New(fault.Unavailable, "find git: %w", err).With("install git: repositories are read with it")
	}
	r := &Repository{path: path, program: program}
	out, err := r.output(ctx, "rev-parse", "--absolute-git-dir")
	if err != nil {
		return nil, fault.New(fault.NotFound, "open repository %s: %w", path, err).With("name a folder that git clone made, or one below it")
	}
	r.path = filepath.Clean(strings.TrimSpace(string(out)))
	return r, nil
}

// command is a run of git that may start no program, fetch nothing, ask nobody
// and change nothing, whatever the repository's settings say.
func (r *Repository) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, r.program, append([]string{"-C", r.path, "--no-pager", "--no-optional-locks", "--no-replace-objects",
		"-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "diff.external=", "-c", "core.attributesFile=/dev/null",
		"-c", "log.showSignature=false", "-c", "color.ui=false"}, args...)...)
	c.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_ALLOW_PROTOCOL=", "GIT_NO_LAZY_FETCH=1", "GIT_ATTR_NOSYSTEM=1", "GIT_OPTIONAL_LOCKS=0"}
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
// leads to, the oldest first, with the commit that brought it. Content that
// stands at several paths or was brought several times is handed over once.
func (r *Repository) Each(ctx context.Context, take func(inventory.Blob, io.Reader) error) error {
	newest, err := r.newest(ctx)
	if err != nil {
		return err
	}
	contents, err := r.contents(ctx)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	err = r.changes(ctx, func(b inventory.Blob) error {
		if seen[b.ID] {
			return nil
		}
		if len(seen) >= maxBlobs {
			return fault.New(fault.Exhausted, "history has more than %d contents", maxBlobs)
		}
		seen[b.ID] = true
		b.Newest = newest[b.ID]
		r.Blobs++
		return contents.take(b, take)
	})
	return errors.Join(err, contents.close())
}

// newest are the contents of the commit in use; none in a repository without one.
func (r *Repository) newest(ctx context.Context) (map[string]bool, error) {
	all := map[string]bool{}
	if _, err := r.output(ctx, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
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
				all[fields[2]] = true
			}
		}
	}, "ls-tree", "-r", "-z", "--full-tree", "HEAD")
	return all, err
}

// changes calls one for every content that a commit adds or changes.
func (r *Repository) changes(ctx context.Context, one func(inventory.Blob) error) error {
	return r.tokens(ctx, func(t *tokens) error {
		var commit inventory.Commit
		for {
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
				if err := one(inventory.Blob{ID: fields[3], Path: path, Commit: commit}); err != nil {
					return err
				}
			}
		}
	}, "log", "--all", "--reverse", "--diff-merges=first-parent", "--root", "--no-renames", "--no-ext-diff", "--no-textconv", "--raw", "-z", "--no-abbrev", "--format=%x01%H%x00%an%x00%aI")
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

// take asks for one content and hands it over.
func (c *contents) take(b inventory.Blob, take func(inventory.Blob, io.Reader) error) error {
	if _, err := io.WriteString(c.in, b.ID+"\n"); err != nil {
		return fmt.Errorf("ask git: %w", err)
	}
	head, err := c.out.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read from git: %w", unexpected(err))
	}
	// "id type size", or "id missing" in a clone that lacks it.
	fields := bytes.Fields(head)
	if len(fields) != 3 {
		return nil
	}
	if b.Size, err = strconv.ParseInt(string(fields[2]), 10, 64); err != nil {
		return fmt.Errorf("read from git: size of %s: %w", b.ID, err)
	}
	content := io.LimitReader(c.out, b.Size)
	if err := take(b, content); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return fmt.Errorf("read from git: %w", err)
	}
	if _, err := c.out.Discard(1); err != nil { // the line's end after it
		return fmt.Errorf("read from git: %w", unexpected(err))
	}
	return nil
}

func (c *contents) close() error {
	c.in.Close()               //nolint:errcheck // it ends by that
	io.Copy(io.Discard, c.out) //nolint:errcheck // what was not wanted
	if err := c.cmd.Wait(); err != nil {
		return explained(err, &c.said)
	}
	return nil
}
