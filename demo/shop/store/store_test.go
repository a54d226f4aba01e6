package store_test

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/castellan-security/castellan/demo/shop/store"
)

const seed = `CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT, price REAL);
INSERT INTO product VALUES (1, 'Teapot', 24.5), (2, 'Blue; mug', 8.0), (3, 'Lamp', NULL);`

// serve starts a store for one test and returns its address.
func serve(t *testing.T) string {
	t.Helper()
	s, err := store.New(t.Context(), t.Name(), "open sesame", seed, slog.New(slog.DiscardHandler))
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
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l.Addr().String()
}

func connect(t *testing.T, addr string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), "postgres://shop:open%20sesame@"+addr+"/shop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

type product struct {
	ID    int64
	Name  string
	Price *float64
}

func TestQueryInEveryModeOfPgx(t *testing.T) {
	modes := map[string]pgx.QueryExecMode{
		"cached statement": pgx.QueryExecModeCacheStatement,
		"described":        pgx.QueryExecModeDescribeExec,
		"exec":             pgx.QueryExecModeExec,
		"simple":           pgx.QueryExecModeSimpleProtocol,
	}
	price := 8.0
	want := []product{{2, "Blue; mug", &price}, {3, "Lamp", nil}}
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, serve(t))
			rows, err := conn.Query(t.Context(), "SELECT id, name, price FROM product WHERE name ILIKE $1 OR id = $2 ORDER BY id",
				mode, "blue%", "3")
			if err != nil {
				t.Fatal(err)
			}
			got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[product])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("got (-) and want (+) differ:\n%s", diff)
			}
		})
	}
}

func TestInsertReturning(t *testing.T) {
	conn := connect(t, serve(t))
	var id int64
	err := conn.QueryRow(t.Context(), "INSERT INTO product (name, price) VALUES ($1, $2) RETURNING id",
		pgx.QueryExecModeExec, "Vase", 12.25).Scan(&id)
	if err != nil || id != 4 {
		t.Errorf("got id %d, error %v; want 4", id, err)
	}
	tag, err := conn.Exec(t.Context(), "UPDATE product SET price = price + $1 WHERE price > $2", pgx.QueryExecModeExec, int64(1), 9.0)
	if err != nil || tag.String() != "UPDATE 2" {
		t.Errorf("got tag %q, error %v; want UPDATE 2", tag, err)
	}
}

// TestSeveralStatements is what makes the storefront's injection real: a
// simple query may hold more than one statement.
func TestSeveralStatements(t *testing.T) {
	conn := connect(t, serve(t))
	got, err := conn.PgConn().Exec(t.Context(),
		"SELECT name FROM product WHERE id = 1; DELETE FROM product WHERE id = 1 -- '; x\n; SELECT count(*) FROM product").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var tags []string
	for _, r := range got {
		tags = append(tags, r.CommandTag.String())
	}
	if diff := cmp.Diff(tags, []string{"SELECT 1", "DELETE 1", "SELECT 1"}); diff != "" {
		t.Errorf("got (-) and want (+) differ:\n%s", diff)
	}
	if n := string(got[2].Rows[0][0]); n != "2" {
		t.Errorf("got %s rows left, want 2", n)
	}
}

func TestTransactionsAreApart(t *testing.T) {
	addr := serve(t)
	one, other := connect(t, addr), connect(t, addr)
	tx, err := one.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "DELETE FROM product"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int64
	if err := other.QueryRow(t.Context(), "SELECT count(*) FROM product").Scan(&n); err != nil || n != 3 {
		t.Errorf("got %d products, error %v; want 3", n, err)
	}
}

func TestRefused(t *testing.T) {
	addr := serve(t)
	if _, err := pgx.Connect(t.Context(), "postgres://shop:guess@"+addr+"/shop"); err == nil {
		t.Error("a wrong password was accepted")
	}
	for name, sql := range map[string]string{
		"unknown table":   "SELECT * FROM nothing",
		"no SQL":          "make me a sandwich",
		"a file":          "ATTACH '/tmp/x' AS x",
		"too many params": "SELECT $99999999999999999999",
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, addr)
			if _, err := conn.Exec(t.Context(), sql); err == nil {
				t.Error("got no error")
			}
			// The session goes on after an error.
			if _, err := conn.Exec(t.Context(), "SELECT 1"); err != nil {
				t.Errorf("after it: %v", err)
			}
		})
	}
}
