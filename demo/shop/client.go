package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// runClient is the service client: one customer after the other looks around,
// searches, and now and then orders. About one request a second.
func runClient(ctx context.Context, log *slog.Logger) error {
	c := client{shop: os.Getenv("SHOP_URL"), http: http.Client{Timeout: 10 * time.Second}}
	for think(ctx) {
		if err := c.visit(ctx); err != nil && ctx.Err() == nil {
			log.Error("visit the shop", "error", err)
		}
	}
	return nil
}

type client struct {
	shop string
	http http.Client
}

var wishes = []string{"teapot", "mug", "lamp", "candle", "towel", "blue"}

// think waits as long as a person would between two clicks.
func think(ctx context.Context) bool {
	return pause(ctx, time.Duration(500+rand.IntN(1000))*time.Millisecond)
}

// visit is one customer, of whom every other one buys something.
func (c *client) visit(ctx context.Context) error {
	if err := c.get(ctx, "/"); err != nil {
		return err
	}
	think(ctx)
	if err := c.get(ctx, "/static?file=style.css"); err != nil {
		return err
	}
	if err := c.get(ctx, "/search?q="+wishes[rand.IntN(len(wishes))]); err != nil {
		return err
	}
	if rand.IntN(2) == 0 || !think(ctx) {
		return nil
	}
	if err := c.get(ctx, "/label?text="+url.QueryEscape("For you, with love")); err != nil {
		return err
	}
	return c.order(ctx, 1+rand.IntN(8), 1+rand.IntN(12))
}

func (c *client) get(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.shop+path, nil)
	if err != nil {
		return err
	}
	return c.do(req)
}

func (c *client) order(ctx context.Context, product, quantity int) error {
	form := url.Values{"product": {strconv.Itoa(product)}, "quantity": {strconv.Itoa(quantity)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.shop+"/order?"+form.Encode(), nil)
	if err != nil {
		return err
	}
	return c.do(req)
}

func (c *client) do(req *http.Request) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", req.Method, req.URL.Path, resp.Status)
	}
	return nil
}
