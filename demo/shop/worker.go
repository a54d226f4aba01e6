package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	workEvery    = 2 * time.Second
	invoiceTime  = 10 * time.Second
	keepInvoices = 50 // files; older ones are overwritten
)

// A bill is what the worker hands to its child and gets back with the total.
type bill struct {
	Order    int64  `json:"order"`
	Name     string `json:"name"`
	Quantity int64  `json:"quantity"`
	Cents    int64  `json:"cents"` // of one piece
	Total    int64  `json:"total"`
}

// A worker turns orders into invoices.
type worker struct {
	db      *database
	program string // that computes an invoice: this one under another name
	folder  string // of the invoices
}

func runWorker(ctx context.Context, log *slog.Logger) error {
	w := &worker{&database{url: os.Getenv("DATABASE_URL")}, "/bin/invoice", "/var/lib/worker"}
	defer w.db.close()
	for pause(ctx, workEvery) {
		for {
			b, err := w.workOnce(ctx)
			if errors.Is(err, pgx.ErrNoRows) {
				break
			}
			if err != nil {
				log.Error("work on an order", "error", err)
				break
			}
			log.Info("invoiced", "order", b.Order, "cents", b.Total)
		}
	}
	return nil
}

// workOnce takes the oldest new order to its invoice; pgx.ErrNoRows if there
// is none.
func (w *worker) workOnce(ctx context.Context) (bill, error) {
	var b bill
	err := w.db.ask(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, `SELECT purchase.id, name, quantity, cents FROM purchase
			JOIN product ON product.id = purchase.product WHERE status = 'new' ORDER BY purchase.id LIMIT 1`).
			Scan(&b.Order, &b.Name, &b.Quantity, &b.Cents)
	})
	if err != nil {
		return bill{}, err
	}
	if b, err = w.invoice(ctx, b); err != nil {
		return bill{}, err
	}
	return b, w.db.ask(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "UPDATE purchase SET status = 'done', total = $1 WHERE id = $2", b.Total, b.Order)
		return err
	})
}

// invoice has a child process compute the bill, and writes it to a file.
func (w *worker) invoice(ctx context.Context, b bill) (bill, error) {
	ctx, cancel := context.WithTimeout(ctx, invoiceTime)
	defer cancel()
	in, err := json.Marshal(b)
	if err != nil {
		return bill{}, err
	}
	child := exec.CommandContext(ctx, w.program)
	child.Stdin = bytes.NewReader(in)
	out, err := child.Output()
	if err != nil {
		return bill{}, fmt.Errorf("run %s: %w", w.program, err)
	}
	if err := json.Unmarshal(out, &b); err != nil {
		return bill{}, fmt.Errorf("read answer of %s: %w", w.program, err)
	}
	file := filepath.Join(w.folder, fmt.Sprintf("invoice-%02d.json", b.Order%keepInvoices))
	return b, os.WriteFile(file, out, 0o600)
}

// runInvoice is the child: a bill on standard input, the bill with its total
// on standard output.
func runInvoice(context.Context, *slog.Logger) error {
	var b bill
	if err := json.NewDecoder(os.Stdin).Decode(&b); err != nil {
		return fmt.Errorf("read bill: %w", err)
	}
	b.Total = total(b)
	return json.NewEncoder(os.Stdout).Encode(b)
}

// total is the price of all pieces, ten per cent less from ten pieces on.
func total(b bill) int64 {
	cents := b.Quantity * b.Cents
	if b.Quantity >= 10 {
		cents -= cents / 10
	}
	return cents
}
