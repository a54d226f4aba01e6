package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// staticFolder holds the files that /static hands out.
const staticFolder = "/srv/static"

// footer is on every page; an attack shows itself by changing it in memory.
const footer = "<footer>Thank you for visiting the corner shop.</footer>\n"

func runStorefront(ctx context.Context, log *slog.Logger) error {
	db := &database{url: os.Getenv("DATABASE_URL")}
	defer db.close()
	shop := newStorefront(db, os.Getenv("API_URL"), staticFolder, log)
	return serve(ctx, ":8080", shop, log)
}

type storefront struct {
	db     *database
	api    string
	static string
	http   http.Client
	log    *slog.Logger
}

func newStorefront(db *database, api, static string, log *slog.Logger) http.Handler {
	s := &storefront{db: db, api: api, static: static, http: http.Client{Timeout: 5 * time.Second}, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("POST /order", s.place)
	mux.HandleFunc("GET /order", s.order)
	mux.HandleFunc("GET /search", s.search) // these three: see holes.go
	mux.HandleFunc("GET /label", s.label)
	mux.HandleFunc("GET /static", s.file)
	return mux
}

var home = template.Must(template.New("home").Funcs(template.FuncMap{"euro": euro}).Parse(`
<form action="/search"><input name="q" placeholder="What are you looking for?" autofocus> <button>Search</button></form>
<ul>{{range .}}
<li><form action="/order" method="post">{{.Name}} <b>{{euro .Cents}}</b>
<input type="hidden" name="product" value="{{.ID}}"><input name="quantity" type="number" value="1" min="1" max="100"> <button>Order</button></form></li>{{end}}
</ul>
<form action="/label"><input name="text" value="For you, with love"> <button>See your gift label</button></form>
`))

var ordered = template.Must(template.New("order").Funcs(template.FuncMap{"euro": euro}).Parse(
	`<p>Order {{.ID}}: {{.Status}}{{if .Cents}}, {{euro .Cents}}{{end}}. <a href="/order?id={{.ID}}">Look again</a></p>
`))

func (s *storefront) home(w http.ResponseWriter, r *http.Request) {
	var products []product
	if err := s.ask(r.Context(), http.MethodGet, "/products", nil, &products); err != nil {
		s.fail(w, err)
		return
	}
	s.page(w, home, products)
}

func (s *storefront) place(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	product, err := strconv.ParseInt(r.FormValue("product"), 10, 64)
	quantity, err2 := strconv.ParseInt(r.FormValue("quantity"), 10, 64)
	if errors.Join(err, err2) != nil {
		http.Error(w, "product and quantity are numbers", http.StatusBadRequest)
		return
	}
	var o order
	if err := s.ask(r.Context(), http.MethodPost, "/orders", order{Product: product, Quantity: quantity}, &o); err != nil {
		s.fail(w, err)
		return
	}
	s.page(w, ordered, o)
}

func (s *storefront) order(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.FormValue("id"), 10, 64)
	if err != nil {
		http.Error(w, "the id of an order is a number", http.StatusBadRequest)
		return
	}
	var o order
	if err := s.ask(r.Context(), http.MethodGet, "/orders/"+strconv.FormatInt(id, 10), nil, &o); err != nil {
		s.fail(w, err)
		return
	}
	s.page(w, ordered, o)
}

// ask calls the api with in as JSON, unless it is nil, and reads out.
func (s *storefront) ask(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, s.api+path, &body)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := io.LimitReader(resp.Body, maxBody)
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer) // only to say more
		return fmt.Errorf("api: %s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return json.NewDecoder(answer).Decode(out)
}

// page writes a page around what the template makes of data.
func (s *storefront) page(w http.ResponseWriter, t *template.Template, data any) {
	s.head(w)
	if err := t.Execute(w, data); err != nil {
		s.log.Info("client left", "error", err)
	}
	s.foot(w)
}

func (s *storefront) head(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html><html lang="en"><title>The corner shop</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/static?file=style.css">
<h1><a href="/">The corner shop</a></h1>`)
}

func (s *storefront) foot(w http.ResponseWriter) { fmt.Fprint(w, footer) }

func (s *storefront) fail(w http.ResponseWriter, err error) {
	s.log.Error("serve", "error", err)
	http.Error(w, "the shop is closed for a moment: "+err.Error(), http.StatusBadGateway)
}

func euro(cents int64) string { return fmt.Sprintf("%d.%02d €", cents/100, cents%100) }
