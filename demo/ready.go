package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Limits of waiting for the shop.
const (
	orderTime  = time.Minute // from the start to the first invoice
	askEvery   = 250 * time.Millisecond
	maxPage    = 1 << 20
	oneRequest = 5 * time.Second
)

func shopURL(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }

func portFree(ctx context.Context, port int) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return fmt.Errorf("port %d of 127.0.0.1 is taken (%w); choose another: go run ./demo -port %d up", port, err, port+1)
	}
	return l.Close()
}

var orderID = regexp.MustCompile(`Order (\d+):`)

// waitForOrder orders a teapot, again and again until the shop is up, and waits
// until the worker has done its invoice: then every service has done its part.
func waitForOrder(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	id, err := untilMatch(ctx, orderID, http.MethodPost, shopURL(port)+"/order?product=1&quantity=1")
	if err != nil {
		return fmt.Errorf("the shop takes no order: %w; see docker logs of its containers", err)
	}
	done := regexp.MustCompile(`: (done)`)
	if _, err := untilMatch(ctx, done, http.MethodGet, shopURL(port)+"/order?id="+id); err != nil {
		return fmt.Errorf("order %s is not done: %w; see docker logs of the worker", id, err)
	}
	return nil
}

// untilMatch repeats a request until its answer matches, and returns the
// match's first group.
func untilMatch(ctx context.Context, want *regexp.Regexp, method, url string) (string, error) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		page, err := request(ctx, method, url)
		if m := want.FindStringSubmatch(page); err == nil && m != nil {
			return m[1], nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", errors.Join(ctx.Err(), err)
		}
	}
}

func request(ctx context.Context, method, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, oneRequest)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(page)))
	}
	return string(page), err
}

// tell prints what runs and what to do with it.
func tell(ctx context.Context, port int) error {
	list, err := docker(ctx, "ps", "--filter", "label="+label, "--format", "table {{.Names}}\t{{.Image}}\t{{.Status}}")
	if err != nil {
		return err
	}
	storefront, err := docker(ctx, "ps", "--filter", "label="+label, "--filter", "label=com.amazonaws.ecs.container-name=storefront", "--format", "{{.Names}}")
	if err != nil {
		return err
	}
	say(`
%s

The shop is open at %s and has served its first order.

Try next:
  bin/castellan workloads                   the shop as castellan sees it
  bin/castellan events --follow             what happens in it, as it happens
  docker exec -it %s sh
                                            a shell where none belongs
  demo/attacks/reverse-shell.sh             one of the attacks in demo/attacks
  make demo-down                            remove everything`, list, shopURL(port), storefront)
	return nil
}
