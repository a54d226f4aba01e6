package server_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/server/registries"
)

// unread is a body that says whether anybody has read of it.
type unread struct {
	io.Reader
	read atomic.Int64
}

func (u *unread) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	u.read.Add(int64(n))
	return n, err
}

// Who shows a wrong token is refused before anything is read, told to wait when
// that goes on, and neither fills the log nor keeps the registry itself out.
func TestWebhooksAskForTheTokenFirst(t *testing.T) {
	var at atomic.Int64
	at.Store(time.Now().Unix())
	h := open(t, nil, func(c *server.Config) {
		c.Clock = func() time.Time { return time.Unix(at.Load(), 0) }
		c.Registries.Webhook = func([]byte, string) ([]asset.RegistryChange, error) { return nil, nil }
	})
	spec := registries.Spec{Name: "hub", Host: "registry.invalid", Every: "7d"}
	_, token, err := h.Registries().Create(t.Context(), access.Identity{Actor: "user:otto", Scopes: access.Operator.Scopes()}, spec, true)
	if err != nil {
		t.Fatal(err)
	}
	c := h.client(t)
	post := func(registry, token string, body io.Reader) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.base+"/api/v1/registries/"+registry+"/webhook", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Expect", "100-continue")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		return resp
	}
	c.Transport.(*http.Transport).ExpectContinueTimeout = deadline
	large := &unread{Reader: bytes.NewReader(make([]byte, 200<<10))}
	if resp := post("hub", "csw_wrong", large); resp.StatusCode != http.StatusUnauthorized || large.read.Load() != 0 {
		t.Errorf("wrong token: got %d after %d bytes of its body", resp.StatusCode, large.read.Load())
	}
	waits := 0
	for i := range 60 {
		resp := post([]string{"hub", "none"}[i%2], fmt.Sprint("csw_", i), strings.NewReader("{}"))
		if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != "" {
			waits++
		}
	}
	if waits != 41 {
		t.Errorf("told to wait %d times of 60, want all after 20", waits)
	}
	if n := strings.Count(h.log.String(), "wrong tokens"); n != 1 {
		t.Errorf("the log says it %d times within a minute, want once", n)
	}
	if resp := post("hub", token, strings.NewReader("{}")); resp.StatusCode != http.StatusAccepted {
		t.Errorf("the right token from the same address: got %d", resp.StatusCode)
	}
	at.Add(120)
	if resp := post("hub", "csw_wrong", strings.NewReader("{}")); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("after the pause: got %d", resp.StatusCode)
	}
	if log := h.log.String(); strings.Count(log, "wrong tokens") != 2 || !strings.Contains(log, "count=61 since_start=62") {
		t.Errorf("the log does not say how many there were")
	}
	a := h.ask(t, "GET", "/metrics", nil, h.as(access.Viewer)...)
	if !strings.Contains(string(a.body), "castellan_webhook_refused_total 62") {
		t.Error("they are not among the metrics")
	}
	if strings.Contains(h.log.String(), token) {
		t.Error("the log has the token")
	}
}
