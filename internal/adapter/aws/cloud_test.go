package aws_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// object is JSON.
type object = map[string]any

// cloud is AWS as far as it answers requests in its JSON protocols.
type cloud struct {
	*httptest.Server
	// answer returns what an operation answers, and its status.
	answer func(operation string, in object) (int, object)

	mu    sync.Mutex
	asked []ask
}

// ask is one request: its operation, what its signature is good for, what it asks.
type ask struct {
	operation, scope string
	in               object
}

// newCloud starts a cloud, and has the SDK ask it and no other.
func newCloud(t *testing.T, answer func(operation string, in object) (int, object)) *cloud {
	t.Helper()
	c := &cloud{answer: answer}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	outside(t)
	t.Setenv("AWS_ENDPOINT_URL_ECR", c.URL)
	t.Setenv("AWS_ENDPOINT_URL_SQS", c.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
	t.Setenv("AWS_MAX_ATTEMPTS", "1") // the SDK's own pauses are not what is tested
	return c
}

// ServeHTTP reads a request and answers.
func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var in object
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "not a request of a JSON protocol", http.StatusBadRequest)
		return
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	parts := strings.Split(scope, "/")
	if len(parts) < 5 {
		http.Error(w, "not signed", http.StatusForbidden)
		return
	}
	c.mu.Lock()
	c.asked = append(c.asked, ask{operation, parts[2] + " " + parts[3], in})
	c.mu.Unlock()
	status, out := c.answer(operation, in)
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out)
}

// asks returns the requests of an operation.
func (c *cloud) asks(operation string) []ask {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []ask
	for _, a := range c.asked {
		if a.operation == operation {
			all = append(all, a)
		}
	}
	return all
}

// listed reads a list to its end.
func listed[T any](seq func(func(T, error) bool)) (all []T, err error) {
	for v, e := range seq {
		if e != nil {
			err = e
			continue
		}
		all = append(all, v)
	}
	return all, err
}
