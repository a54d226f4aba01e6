package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/demo/shop/store"
)

// TestMain lets the test binary be the worker's child, as the program is in
// its container.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "invoice" {
		if err := runInvoice(context.Background(), nil); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// open starts store, api and storefront for one test, without the network's
// names, and returns the storefront's URL and a connection to the store.
func open(t *testing.T) (string, *database) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := store.New(t.Context(), t.Name(), "secret", seed, log)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	db := &database{url: "postgres://shop:secret@" + l.Addr().String() + "/shop"}
	static := t.TempDir()
	if err := os.WriteFile(filepath.Join(static, "style.css"), []byte("body {}"), 0o600); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(newAPI(db, log))
	front := httptest.NewServer(newStorefront(db, api.URL, static, log))
	t.Cleanup(func() {
		front.Close()
		api.Close()
		db.close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return front.URL, db
}

func ask(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestAnOrderFlowsThroughEveryService(t *testing.T) {
	shop, db := open(t)
	if code, page := ask(t, http.MethodPost, shop+"/order?product=3&quantity=10"); code != 200 || !strings.Contains(page, "Order 1: new") {
		t.Fatalf("got %d %q, want a new order 1", code, page)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{db: db, program: filepath.Join(t.TempDir(), "invoice"), folder: t.TempDir()}
	if err := os.Symlink(self, w.program); err != nil {
		t.Fatal(err)
	}
	b, err := w.workOnce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (bill{Order: 1, Name: "Mug", Quantity: 10, Cents: 890, Total: 8010}); b != want {
		t.Errorf("got bill %+v, want %+v", b, want)
	}
	if _, err := os.Stat(filepath.Join(w.folder, "invoice-01.json")); err != nil {
		t.Errorf("no invoice: %v", err)
	}
	if _, page := ask(t, http.MethodGet, shop+"/order?id=1"); !strings.Contains(page, "Order 1: done, 80.10 €") {
		t.Errorf("got %q, want the order done", page)
	}
}

func TestOrdinaryRequests(t *testing.T) {
	shop, _ := open(t)
	tests := []struct {
		name, method, path string
		code               int
		want               string
	}{
		{"home", "GET", "/", 200, "Teapot, blue <b>24.50 €</b>"},
		{"search", "GET", "/search?q=TEAPOT", 200, "<li>[Teapot, red 2450]</li>"},
		{"label", "GET", "/label?text=For+you", 200, "For you\n"},
		{"static", "GET", "/static?file=style.css", 200, "body {}"},
		{"static, none", "GET", "/static?file=nothing", 404, "no such file"},
		{"unknown product", "POST", "/order?product=99&quantity=1", 502, "no such thing"},
		{"too many", "POST", "/order?product=1&quantity=101", 502, "quantity from 1 to 100"},
		{"not a number", "POST", "/order?product=x&quantity=1", 400, "numbers"},
		{"unknown order", "GET", "/order?id=77", 502, "no such thing"},
		{"unknown page", "GET", "/nothing", 404, "not found"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, page := ask(t, tt.method, shop+tt.path)
			if code != tt.code || !strings.Contains(page, tt.want) {
				t.Errorf("got %d %q, want %d with %q", code, page, tt.code, tt.want)
			}
		})
	}
}

// TestHoles holds the holes open: an attack on a hole that somebody mended
// would prove nothing.
func TestHoles(t *testing.T) {
	shop, _ := open(t)
	tests := []struct{ name, path, input, want string }{
		{"cross-site scripting", "/search?q=", "<script>alert(1)</script>", "<script>alert(1)</script>"},
		{"union", "/search?q=", "x' UNION SELECT name, card FROM customer -- ", "4242424242424242"},
		{"second statement", "/search?q=", "x'; UPDATE product SET cents = 1; SELECT 'left', count(*) FROM product WHERE cents = 1 -- ", "[left 8]"},
		{"command injection", "/label?text=", "x; echo $((6*7)) #", "x\n42\n"},
		{"path traversal", "/static?file=", "../../../../../../../../etc/passwd", "root:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, page := ask(t, http.MethodGet, shop+tt.path+url.QueryEscape(tt.input)); !strings.Contains(page, tt.want) {
				t.Errorf("got %q, want %q in it", page, tt.want)
			}
		})
	}
}

func TestMetadataWantsItsToken(t *testing.T) {
	server := httptest.NewServer(newMetadata("arn:aws:ecs:eu-central-1:123456789012:task/shop/1"))
	defer server.Close()
	role := server.URL + "/latest/meta-data/iam/security-credentials/" + instanceRole
	if code, _ := ask(t, http.MethodGet, role); code != http.StatusUnauthorized {
		t.Errorf("got %d without a token, want 401", code)
	}
	_, token := ask(t, http.MethodPut, server.URL+"/latest/api/token")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, role, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-aws-ec2-metadata-token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("got %s with the token, want 200", resp.Status)
	}
	if _, page := ask(t, http.MethodGet, server.URL+"/v4/1/task"); !strings.Contains(page, `"ServiceName":"storefront"`) {
		t.Errorf("got %q, want the task's service", page)
	}
}
