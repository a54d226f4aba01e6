package authz_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
)

// tagging is an engine whose tag shop/cart:1 is moved from one image to another.
type tagging struct {
	store
	asked atomic.Int32
	moved atomic.Bool
	while func() // once, while the image is looked up
}

const otherID = "sha256:3333333333333333333333333333333333333333333333333333333333333333"

func (e *tagging) Image(ctx context.Context, name string) (json.RawMessage, error) {
	e.asked.Add(1)
	raw, err := e.store.Image(ctx, name)
	moved := e.moved.Load()
	if f := e.while; f != nil {
		e.while = nil
		f()
	}
	if moved && err == nil {
		return json.RawMessage(strings.Replace(string(raw), imgID, otherID, 1)), nil
	}
	return raw, err
}

// What a tag means is remembered for containers that follow each other, and not
// beyond a call that may move it: neither what was looked up before it, nor while
// the engine was at it.
func TestATagThatMoves(t *testing.T) {
	const tag = "/v1.44/images/" + otherID + "/tag?repo=registry.example/shop/cart&tag=1"
	judge, engine := allowing(), &tagging{store: shop()}
	d := open(t, judge, engine, authz.Options{})
	create := func() string {
		t.Helper()
		if answer := d.ask(post("/v1.44/containers/create", `{"Image":"registry.example/shop/cart:1"}`)); !answer.Allow {
			t.Fatal(answer)
		}
		all := judge.requests()
		return all[len(all)-1].Task.Containers[0].Image.ID
	}
	move := func(to bool) {
		t.Helper()
		if answer := d.ask(empty("POST", tag)); !answer.Allow {
			t.Fatal(answer)
		}
		during := create() // the engine has not done it yet
		engine.moved.Store(to)
		d.send("/AuthZPlugin.AuthZRes", empty("POST", tag))
		if during == create() {
			t.Error("the image is still that of before")
		}
	}
	for range 3 {
		if got := create(); got != imgID {
			t.Errorf("got %s, want %s", got, imgID)
		}
	}
	if got := engine.asked.Load(); got != 1 {
		t.Errorf("the engine was asked %d times, want once", got)
	}
	move(true)
	move(false)
	// It moves while a container's image is looked up.
	d.ask(empty("POST", tag))
	engine.while = func() {
		engine.moved.Store(true)
		d.send("/AuthZPlugin.AuthZRes", empty("POST", tag))
	}
	if got := create(); got != imgID {
		t.Errorf("got %s, want %s", got, imgID)
	}
	if got := create(); got != otherID {
		t.Errorf("got %s, want %s", got, otherID)
	}
}
