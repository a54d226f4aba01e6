package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of a conversation with the engine.
const (
	// maxCall is how long a call may be as the engine passes it on: a body of 1 MiB
	// in base64, and as many headers as an engine's server reads.
	maxCall = maxBody/3*4 + 2<<20
	// headersWithin is how long the engine may take to send a call's headers, and
	// readWithin all of it; idle is how long a connection is kept without calls.
	headersWithin = 10 * time.Second
	readWithin    = 30 * time.Second
	idle          = 5 * time.Minute
	// endWithin is how long calls may take that are under way when the plugin ends.
	endWithin = 5 * time.Second
	mediaType = "application/vnd.docker.plugins.v1.2+json"
)

// Serve answers the engine on l until ctx ends, and closes l. Reports are told
// until all are told. It is called once.
func (p *Plugin) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: p.handler(), ReadHeaderTimeout: headersWithin, IdleTimeout: idle,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	var telling sync.WaitGroup
	stop := make(chan struct{})
	telling.Go(func() { p.tell(stop) })
	defer telling.Wait()
	defer close(stop)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
		if e := server.Shutdown(end); e != nil {
			err = errors.Join(e, server.Close())
		}
		cancel()
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("serve authorization plugin: %w", err)
	}
	return err
}

// handler has the calls of the plugin protocol.
func (p *Plugin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		p.seen.renew() // an engine asks that when it starts
		p.answer(w, struct{ Implements []string }{[]string{"authz"}})
	})
	mux.HandleFunc("POST /AuthZPlugin.AuthZReq", p.before)
	mux.HandleFunc("POST /AuthZPlugin.AuthZRes", p.after)
	return mux
}

// permission is an answer to the engine.
type permission struct {
	Allow bool
	Msg   string `json:",omitempty"`
	Err   string `json:",omitempty"`
}

func (p *Plugin) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", mediaType)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.log.Warn("engine not answered", "error", err) // it takes that for a no
	}
}

// before answers whether the engine may do what it was asked.
func (p *Plugin) before(w http.ResponseWriter, r *http.Request) {
	// Deadlines are of single calls: an engine keeps its connections.
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(readWithin)); err != nil {
		p.log.Debug("no deadline for a call", "error", err)
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCall))
	var c call
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		p.answer(w, permission{Msg: told(fmt.Errorf("castellan can't read what the engine asks: %w", err))})
		return
	}
	var answer permission
	err = p.contained(func() error {
		answer.Allow, answer.Msg = p.authorize(r.Context(), &c)
		return nil
	})
	if err != nil {
		answer = permission{Allow: p.allows()}
		if !answer.Allow {
			answer.Msg = told(err)
		}
	}
	p.answer(w, answer)
}

// after lets every answer of the engine pass, and lets the names go that were
// held for the call. What the engine answered is not kept: it may be long.
func (p *Plugin) after(w http.ResponseWriter, r *http.Request) {
	method, uri := beginning(r.Body)
	defer p.seen.ended(method, uri)
	if a, err := parseAddress(uri); err == nil {
		if rt, what, ok := find(p.table, method, a.path); ok {
			if name := heldName(rt, what); name != "" {
				p.names.free(name)
			}
			defer func() { // when all of the answer is there, it is done
				if mayMove(rt) {
					p.images.moved()
				}
			}()
		}
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		p.log.Debug("answer of the engine not read to its end", "error", err)
	}
	p.answer(w, permission{Allow: true})
}

// beginning reads the method and the address of a call, which come first, and no
// more than it must.
func beginning(r io.Reader) (method, uri string) {
	d := json.NewDecoder(io.LimitReader(r, maxAddress+maxText*4))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", ""
	}
	for method == "" || uri == "" {
		key, err := d.Token()
		if err != nil {
			return "", ""
		}
		value, err := d.Token()
		if err != nil {
			return "", ""
		}
		text, ok := value.(string)
		switch {
		case !ok:
			return "", ""
		case key == "RequestMethod":
			method = text
		case key == "RequestUri": // the engine's spelling
			uri = text
		}
	}
	return method, uri
}
