package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
)

// askers is how many doors ask a server at once.
const askers = 6

// askedAdmission times decisions of a server that doors ask over TLS with a token,
// each with a request of its own. The doors run on the same processors.
func askedAdmission(ctx context.Context, o options) (rows []row, err error) {
	h, err := openHouse(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	file := filepath.Join(o.dir, "first.yaml")
	if err := os.WriteFile(file, admit.First(), 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, o.program, "admit", "policy", "set", file, "--data-dir", h.data).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("castellan admit policy set: %w: %s", err, out)
	}
	var made struct{ Secret string }
	if err := h.ask(ctx, &made, "tokens", "create", "bench", "--scope", "admission:decide"); err != nil {
		return nil, err
	}
	// It is this process's own server, on loopback.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: askers}}
	defer client.CloseIdleConnections()
	var took []float64
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	for n := range askers {
		wg.Go(func() {
			own, e := h.askAll(ctx, client, made.Secret, n, began.Add(o.span))
			mu.Lock()
			defer mu.Unlock()
			took, err = append(took, own...), errors.Join(err, e)
		})
	}
	wg.Wait()
	if err != nil || len(took) == 0 {
		return nil, errors.Join(errors.New("the server was not asked"), err)
	}
	span := time.Since(began).Seconds()
	slices.Sort(took)
	return []row{{"decisions of a server, over TLS with a token", fmt.Sprintf("%.0f/s, %s", float64(len(took))/span, shares(took)), ""}}, nil
}

// askAll asks until then, and returns how long each answer took.
func (h *house) askAll(ctx context.Context, client *http.Client, token string, asker int, until time.Time) (took []float64, err error) {
	for i := 0; time.Now().Before(until); i++ {
		id := fmt.Sprintf("bench-%d-%d", asker, i)
		r := admission.Request{ID: id, Door: admission.Service, Action: admission.Run, At: time.Now(), Place: admission.Place{Cluster: "prod", Service: "shop"}, Task: admission.Task{Family: "shop", Containers: []admission.Container{
			{Name: "web", Command: []string{id}, Image: admission.ParseImage(fmt.Sprintf("registry.example.com/shop/web:1@sha256:%064x", i%50))},
			{Name: "side", Image: admission.ParseImage(fmt.Sprintf("registry.example.com/shop/side:1@sha256:%064x", 100+i%50))},
		}}}
		b, err := json.Marshal(&r)
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+h.address+"/api/v1/admit/decide", bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		began := time.Now()
		res, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		took = append(took, milliseconds(time.Since(began)))
		if err = errors.Join(err, res.Body.Close()); err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the server answers %s: %s", res.Status, answer)
		}
	}
	return took, nil
}
