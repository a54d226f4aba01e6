package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// A product is one line of the shop's range.
type product struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	Cents int64  `json:"cents"`
}

// An order is what a customer wants, and later what it costs.
type order struct {
	ID       int64  `json:"id"`
	Product  int64  `json:"product"`
	Quantity int64  `json:"quantity"`
	Status   string `json:"status"`
	Cents    int64  `json:"cents"` // the total; 0 until the worker has been there
}

// maxBody bounds what the api reads and what its callers read from it.
const maxBody = 64 << 10

func runAPI(ctx context.Context, log *slog.Logger) error {
	db := &database{url: os.Getenv("DATABASE_URL")}
	defer db.close()
	return serve(ctx, ":8081", newAPI(db, log), log)
}

type api struct {
	db  *database
	log *slog.Logger
}

func newAPI(db *database, log *slog.Logger) http.Handler {
	a := &api{db, log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /products", a.products)
	mux.HandleFunc("POST /orders", a.place)
	mux.HandleFunc("GET /orders/{id}", a.order)
	return mux
}

func (a *api) products(w http.ResponseWriter, r *http.Request) {
	var found []product
	err := a.db.ask(r.Context(), func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, "SELECT id, name, cents FROM product ORDER BY id")
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[product])
		return err
	})
	a.reply(w, found, err)
}

func (a *api) place(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&o); err != nil || o.Quantity < 1 || o.Quantity > 100 {
		http.Error(w, "an order needs a product and a quantity from 1 to 100", http.StatusBadRequest)
		return
	}
	o.Status, o.Cents = "new", 0
	err := a.db.ask(r.Context(), func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "INSERT INTO purchase (product, quantity) SELECT id, $2 FROM product WHERE id = $1 RETURNING id",
			o.Product, o.Quantity).Scan(&o.ID)
	})
	a.reply(w, o, err)
}

func (a *api) order(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		http.Error(w, "the id of an order is a number", http.StatusBadRequest)
		return
	}
	var o order
	err = a.db.ask(r.Context(), func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "SELECT id, product, quantity, status, coalesce(total, 0) FROM purchase WHERE id = $1", id).
			Scan(&o.ID, &o.Product, &o.Quantity, &o.Status, &o.Cents)
	})
	a.reply(w, o, err)
}

// reply writes v as JSON, or what went wrong.
func (a *api) reply(w http.ResponseWriter, v any, err error) {
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		http.Error(w, "there is no such thing", http.StatusNotFound)
		return
	case err != nil:
		a.log.Error("ask the store", "error", err)
		http.Error(w, "the store does not answer", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		a.log.Info("client left", "error", err)
	}
}
