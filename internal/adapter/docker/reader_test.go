package docker_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/fault"
)

// TestReader asks an engine single questions, with names that strangers chose.
func TestReader(t *testing.T) {
	f := serve(t, "1.41", "1.41")
	e, err := docker.New(docker.Options{Host: "unix://" + f.socket}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := e.Reader()
	t.Cleanup(r.Close)
	ctx := t.Context()
	f.say("/containers/web/json", `{"Id":"1"}`)
	f.say("/exec/2/json", `{"ID":"2"}`)
	f.say("/volumes/data", `{"Name":"data"}`)
	f.say("/networks/n", `{"Name":"n"}`)
	f.say("/images/r.example/shop/cart:1/json", `{"Id":"3"}`)
	f.say("/info", `{"ID":"4"}`)
	for _, tc := range []struct {
		name string
		ask  func() (json.RawMessage, error)
		want string
		kind fault.Kind
	}{
		{"container", func() (json.RawMessage, error) { return r.Container(ctx, "web") }, `{"Id":"1"}`, 0},
		{"exec", func() (json.RawMessage, error) { return r.Exec(ctx, "2") }, `{"ID":"2"}`, 0},
		{"volume", func() (json.RawMessage, error) { return r.Volume(ctx, "data") }, `{"Name":"data"}`, 0},
		{"network", func() (json.RawMessage, error) { return r.Network(ctx, "n") }, `{"Name":"n"}`, 0},
		{"image", func() (json.RawMessage, error) { return r.Image(ctx, "r.example/shop/cart:1") }, `{"Id":"3"}`, 0},
		{"engine", func() (json.RawMessage, error) { return r.Info(ctx) }, `{"ID":"4"}`, 0},
		{"no such container", func() (json.RawMessage, error) { return r.Container(ctx, "none") }, "", fault.NotFound},
		{"a path as a name", func() (json.RawMessage, error) { return r.Container(ctx, "../info") }, "", fault.Invalid},
		{"a query as a name", func() (json.RawMessage, error) { return r.Volume(ctx, "a?b") }, "", fault.Invalid},
		{"no name", func() (json.RawMessage, error) { return r.Network(ctx, "") }, "", fault.Invalid},
		{"a path as an image", func() (json.RawMessage, error) { return r.Image(ctx, "a/../../info") }, "", fault.Invalid},
		{"a long name", func() (json.RawMessage, error) { return r.Container(ctx, strings.Repeat("a", 300)) }, "", fault.Invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.ask()
			if string(got) != tc.want || fault.Of(err) != tc.kind {
				t.Errorf("answer = %s, %v, want %s and an error of kind %v", got, err, tc.want, tc.kind)
			}
		})
	}
	if n := f.count("/version"); n != 1 {
		t.Errorf("connected %d times, want once", n)
	}
}
