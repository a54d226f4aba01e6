package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// standIn answers an agent as a container engine does that runs the benchmark's
// containers: they are as real as an engine's to the kernel and the agent, and made
// in a millisecond.
type standIn struct {
	socket string
	server *http.Server
	done   chan error
	began  time.Time

	mu  sync.Mutex
	all []*contained
}

func openStandIn(o options) (*standIn, error) {
	s := &standIn{socket: filepath.Join(o.dir, "engine.sock"), done: make(chan error, 1), began: time.Now().UTC()}
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		return nil, err
	}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: ready}
	go func() { s.done <- s.server.Serve(l) }()
	return s, nil
}

func (s *standIn) close() error {
	err := s.server.Close()
	if e := <-s.done; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// runs makes these the containers that there are, for agents that ask from now on.
func (s *standIn) runs(all ...*contained) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = all
}

var apiVersion = regexp.MustCompile(`^/v[0-9.]+`)

// ServeHTTP is the part of an engine's interface that an agent uses.
func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	path := apiVersion.ReplaceAllString(r.URL.Path, "")
	s.mu.Lock()
	all := s.all
	s.mu.Unlock()
	switch {
	case path == "/_ping":
	case path == "/version":
		answer(w, map[string]any{"Version": "20.10.24", "ApiVersion": "1.41"})
	case path == "/containers/json":
		list := []map[string]any{}
		for _, c := range all {
			list = append(list, s.listed(c))
		}
		answer(w, list)
	case path == "/events":
		_ = http.NewResponseController(w).Flush() // or the agent waits for the answer to begin
		<-r.Context().Done()
	default:
		for _, c := range all {
			if path == "/containers/"+c.id+"/json" {
				answer(w, s.inspected(c))
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
		answer(w, map[string]any{"message": "No such thing: " + strings.TrimPrefix(path, "/")})
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who hung up reads no answer
}

const (
	standInImage = "sha256:112ac05b694aeef4c33ac1ef57515a12e6e88491682c341a557f506afbb73da8"
	townCluster  = "bench"
	townFamily   = "town"
)

func (c *contained) labels() map[string]string {
	const prefix = "com.amazonaws.ecs."
	return map[string]string{prefix + "cluster": townCluster, prefix + "task-definition-family": townFamily, prefix + "container-name": c.group}
}

func (s *standIn) listed(c *contained) map[string]any {
	return map[string]any{
		"Id": c.id, "Names": []string{"/" + c.name}, "Image": "bench:1", "ImageID": standInImage, "Created": s.began.Unix(),
		"State": "running", "Labels": c.labels(), "HostConfig": map[string]any{"NetworkMode": "host"},
	}
}

func (s *standIn) inspected(c *contained) map[string]any {
	return map[string]any{
		"Id": c.id, "Name": "/" + c.name, "Created": s.began, "Image": standInImage, "Driver": "overlay2", "Platform": "linux",
		"State":      map[string]any{"Status": "running", "Running": true, "Pid": c.pid, "StartedAt": s.began},
		"Config":     map[string]any{"Image": "bench:1", "Labels": c.labels()},
		"HostConfig": map[string]any{"NetworkMode": "host"},
	}
}
