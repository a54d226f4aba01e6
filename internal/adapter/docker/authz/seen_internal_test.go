package authz

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	one   = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	other = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	made  = `{"State":{"Status":"created"}}`
)

// host is a plugin to which calls are sent, as far as it lets them pass.
type host struct {
	t     *testing.T
	p     *Plugin
	table []route
}

func newHost(t *testing.T) host {
	p := &Plugin{seen: newSeen()}
	time.Sleep(strangeFor)
	return host{t, p, routes()}
}

func (h host) begin(method, uri string) {
	a, err := parseAddress(uri)
	r, what, ok := find(h.table, method, a.path)
	if err != nil || !ok {
		h.t.Fatalf("%s %s: %v", method, uri, err)
	}
	h.p.seen.began(method, uri, r, what)
}

func (h host) end(method, uri string) { h.p.seen.ended(method, uri) }

func (h host) look() { h.p.Looking(one)([]byte(made)) }

func (h host) knows(want bool) {
	h.t.Helper()
	if got := string(h.p.seen.take(h.t.Context(), one)); (got == made) != want {
		h.t.Errorf("a start is decided by %q, want it known: %t", got, want)
	}
}

// TestWhatMakesALookWorthless says of each call whether what was seen of a container
// before it, while it was under way or before it was over still counts.
func TestWhatMakesALookWorthless(t *testing.T) {
	for call, keeps := range map[string]bool{
		"GET /v1.41/containers/json":                       true,
		"GET /containers/" + one + "/json":                 true,
		"GET /v1.41/containers/" + one + "/archive?path=/": true,
		"GET /v1.41/containers/" + one + "/export":         true,
		"GET /events":                          true,
		"HEAD /_ping":                          true,
		"POST /v1.41/auth":                     true,
		"POST /v1.41/containers/create?name=x": true,
		"POST /v1.41/containers/" + one + "/attach?stream=1":      true,
		"POST /v1.41/containers/" + one + "/wait":                 true,
		"POST /v1.41/containers/" + one + "/resize?h=1":           true,
		"POST /v1.41/exec/" + other + "/start":                    true,
		"POST /v1.41/containers/" + other + "/start":              true,
		"POST /v1.41/containers/" + other + "/update":             true,
		"POST /v1.41/containers/" + other + "/exec":               true,
		"DELETE /v1.41/containers/" + other:                       true,
		"POST /v1.41/containers/" + one + "/start":                false,
		"POST /v1.41/containers/" + one + "/restart":              false,
		"POST /v1.41/containers/" + one + "/unpause":              false,
		"POST /v1.41/containers/" + one + "/stop":                 false,
		"POST /v1.41/containers/" + one + "/update":               false,
		"POST /v1.41/containers/" + one + "/rename?name=x":        false,
		"POST /v1.41/containers/" + one + "/exec":                 false,
		"POST /v1.41/containers/" + one + "/checkpoints":          false,
		"PUT /v1.41/containers/" + one + "/archive?path=/":        false,
		"DELETE /v1.41/containers/" + one:                         false,
		"POST /v1.41/containers/aaaa/update":                      false, // it may be the beginning of its id
		"POST /v1.41/containers/web/update":                       false, // or its name
		"POST /v1.41/containers/web/start":                        false,
		"POST /v1.41/containers/web/rename?name=x":                false,
		"PUT /v1.41/containers/web/archive?path=/":                false,
		"POST /v1.23/containers/" + other + "/copy":               false,
		"POST /v1.41/networks/x/connect":                          false,
		"POST /v1.41/networks/x/disconnect":                       false,
		"POST /v1.41/networks/create":                             false,
		"DELETE /v1.41/networks/x":                                false,
		"POST /v1.41/volumes/create":                              false,
		"DELETE /v1.41/volumes/x":                                 false,
		"POST /v1.41/volumes/prune":                               false,
		"POST /v1.41/containers/prune":                            false,
		"POST /v1.41/images/x/tag?repo=y":                         false,
		"DELETE /v1.41/images/x":                                  false,
		"POST /v1.41/images/create?fromImage=x":                   false,
		"POST /v1.41/images/load":                                 false,
		"POST /v1.41/commit?container=" + other:                   false,
		"POST /v1.41/build":                                       false,
		"POST /grpc":                                              false,
		"POST /session":                                           false,
		"POST /v1.41/plugins/x/enable":                            false,
		"POST /v1.41/swarm/leave":                                 false,
		"DELETE /v1.41/containers/" + other + "/checkpoints/x":    true,
		"DELETE /v1.41/containers/" + one + "/checkpoints/x":      false,
		"POST /v1.41/containers/" + other + "/checkpoints":        true,
		"POST /v1.41/containers/" + other + "/logs/clear":         true,
		"PUT /v1.41/containers/" + other + "/archive?path=/":      true,
		"POST /v1.41/containers/" + other + "/rename?name=" + one: true,
	} {
		t.Run(call, func(t *testing.T) {
			method, uri, _ := strings.Cut(call, " ")
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.look()
				h.begin(method, uri)
				h.end(method, uri)
				h.knows(keeps)

				h.begin(method, uri)
				h.look()
				h.knows(keeps)
				h.look()
				h.end(method, uri)
				h.knows(keeps)

				looked := h.p.Looking(one)
				h.begin(method, uri)
				h.end(method, uri)
				looked([]byte(made))
				h.knows(keeps)

				h.look() // it is over
				h.knows(true)
			})
		})
	}
}

func TestALookIsUsedOnceAndSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := host{t, &Plugin{seen: newSeen()}, routes()}
		h.look()
		h.knows(false) // calls of before may be under way
		time.Sleep(strangeFor)
		h.look()
		h.knows(true)
		h.knows(false)

		h.look()
		time.Sleep(seenFor)
		h.knows(false)

		h.look()
		h.p.Looking(one)(nil) // it is gone by now
		h.knows(false)
		h.p.Looking(one)([]byte(`{"State":{"Status":"running"}}`))
		h.knows(false)
		h.p.Looking(one)([]byte(made + strings.Repeat(" ", maxLook)))
		h.knows(false)
		h.p.Looking("web")([]byte(made))
		h.knows(false)

		first, second := h.p.Looking(one), h.p.Looking(one)
		second([]byte(made))
		first([]byte(`{"State":{"Status":"created"},"Older":true}`))
		h.knows(true)
	})
}

func TestAStartWaitsForALookThatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		for _, tc := range []struct {
			takes time.Duration
			want  bool
		}{{waitsForLook / 2, true}, {2 * waitsForLook, false}} {
			looked := h.p.Looking(one)
			go func() {
				time.Sleep(tc.takes)
				looked([]byte(made))
			}()
			h.knows(tc.want)
			time.Sleep(time.Second)
		}
		// A change that comes meanwhile ends the waiting.
		h.p.Looking(one)
		go func() {
			time.Sleep(waitsForLook / 2)
			h.begin("POST", "/v1.41/containers/"+one+"/update")
		}()
		began := time.Now()
		h.knows(false)
		if took := time.Since(began); took > waitsForLook/2 {
			t.Errorf("it waited %s", took)
		}
	})
}

// TestCallsOfBefore has calls end that were begun before the plugin was, or with an engine
// that is no more.
func TestCallsOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		const update, prune = "/v1.41/containers/" + one + "/update", "/v1.41/containers/prune"
		h.end("POST", update)
		h.end("POST", prune)
		h.begin("POST", update)
		h.begin("POST", update)
		h.end("POST", update)
		h.look()
		h.knows(false) // one is under way still
		h.begin("POST", prune)
		h.look()
		h.knows(false)
		h.p.seen.renew()
		h.look()
		h.knows(true)

		for i := range maxCalls + 1 { // more than are followed
			h.begin("POST", fmt.Sprintf("/v1.41/images/x/tag?repo=r%d", i))
		}
		for i := range maxCalls + 1 {
			h.end("POST", fmt.Sprintf("/v1.41/images/x/tag?repo=r%d", i))
		}
		h.look()
		h.knows(false)
		for i := range 2 * maxSeen {
			h.p.Looking(fmt.Sprintf("%064x", i))([]byte(made))
		}
		if n := len(h.p.seen.of); n > maxSeen {
			t.Errorf("%d looks are remembered", n)
		}
	})
}
