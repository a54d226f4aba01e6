package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"sync"

	"github.com/castellan-security/castellan/internal/fault"
)

// containerName is what an engine takes for the name or id of a container, an
// exec or a volume; a name can also be the beginning of an id. It takes 250 KB, where
// an engine asks.
var containerName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`) })

// Reader asks an engine single questions and hands on the answers as they came,
// over connections that it keeps. It is for whoever must see a container exactly
// as the engine has it, with what Watch leaves out. Its methods may be called at
// the same time.
type Reader struct {
	engine *Engine

	// turn is held by whoever uses conn, and is waited for as long as a question may
	// take: connecting to an engine that hangs takes a while.
	turn chan struct{}
	conn *conn // nil until asked, and after the engine went away
}

// Reader returns a reader of this engine. It does not ask anything yet.
func (e *Engine) Reader() *Reader { return &Reader{engine: e, turn: make(chan struct{}, 1)} }

// Container returns what the engine says of a container, by id, name or the
// beginning of an id. The error is of kind NotFound when there is none, and of
// kind Invalid when there can be none of that name.
func (r *Reader) Container(ctx context.Context, name string) (json.RawMessage, error) {
	return r.named(ctx, "container", "/containers/", name, "/json")
}

// Containers returns the engine's list of all containers, running or not.
func (r *Reader) Containers(ctx context.Context) (json.RawMessage, error) {
	answer, err := r.asked(ctx, "/containers/json", url.Values{"all": {"1"}}, maxListBody)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return answer, nil
}

// Exec returns what the engine says of an exec. Errors are as those of Container.
func (r *Reader) Exec(ctx context.Context, id string) (json.RawMessage, error) {
	return r.named(ctx, "exec", "/exec/", id, "/json")
}

// Volume returns what the engine says of a volume. Errors are as those of Container.
func (r *Reader) Volume(ctx context.Context, name string) (json.RawMessage, error) {
	return r.named(ctx, "volume", "/volumes/", name, "")
}

// Network returns what the engine says of a network. Errors are as those of
// Container.
func (r *Reader) Network(ctx context.Context, name string) (json.RawMessage, error) {
	return r.named(ctx, "network", "/networks/", name, "")
}

// Info returns what the engine says of itself.
func (r *Reader) Info(ctx context.Context) (json.RawMessage, error) {
	answer, err := r.ask(ctx, "/info")
	if err != nil {
		return nil, fmt.Errorf("ask engine for its settings: %w", err)
	}
	return answer, nil
}

// Image returns what the engine says of an image, by reference or id. Errors are
// as those of Container.
func (r *Reader) Image(ctx context.Context, name string) (json.RawMessage, error) {
	if !isImageName(name) {
		return nil, fault.New(fault.Invalid, "inspect image: %q is no name of an image", clean(name, maxText))
	}
	answer, err := r.ask(ctx, "/images/"+name+"/json")
	if err != nil {
		return nil, fmt.Errorf("inspect image: %w", err)
	}
	return answer, nil
}

func (r *Reader) named(ctx context.Context, what, before, name, after string) (json.RawMessage, error) {
	if !containerName().MatchString(name) {
		return nil, fault.New(fault.Invalid, "inspect %s: %q can't be the name of one", what, clean(name, maxText))
	}
	answer, err := r.ask(ctx, before+url.PathEscape(name)+after)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", what, err)
	}
	return answer, nil
}

// ask sends one question. A connection that broke, as all do when the engine is
// restarted, is made anew once.
func (r *Reader) ask(ctx context.Context, path string) (json.RawMessage, error) {
	return r.asked(ctx, path, nil, maxInspectBody)
}

// asked is ask with parameters, and a limit of the answer's length.
func (r *Reader) asked(ctx context.Context, path string, query url.Values, limit int64) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	c, fresh, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := c.read(ctx, path, query, limit)
	if err == nil || fresh || fault.Of(err) != fault.Unavailable || ctx.Err() != nil {
		return answer, err
	}
	r.drop(c)
	if c, _, err = r.connect(ctx); err != nil {
		return nil, err
	}
	return c.read(ctx, path, query, limit)
}

// connect returns the kept connection, or a fresh one.
func (r *Reader) connect(ctx context.Context) (c *conn, fresh bool, err error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, false, fault.New(fault.Unavailable, "wait for the engine: %w", ctx.Err()).With("is dockerd still running?")
	}
	if r.conn != nil {
		return r.conn, false, nil
	}
	if c, err = dial(ctx, r.engine.host); err != nil {
		return nil, false, err
	}
	r.conn = c
	return c, true, nil
}

// drop forgets a connection unless another one has taken its place.
func (r *Reader) drop(c *conn) {
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	if r.conn == c {
		r.conn = nil
	}
	c.close()
}

// Close ends the connections.
func (r *Reader) Close() {
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	if r.conn != nil {
		r.conn.close()
		r.conn = nil
	}
}
