package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// eventFilters are the flags that select events; their names are the API's
// parameters and the console's address.
var eventFilters = []struct{ name, help string }{
	{"kind", "kinds of event (docs/events.md), or whole sensors: " + list(query.Sensors())},
	{"workload", "workload: its container id"},
	{"group", "group: cluster/service/container"},
	{"agent", "agent: its id"},
	{"executable", "path of the executable; a * at the end matches any rest"},
	{"process", "process: its key, as events show it; needs --agent"},
	{"path", "file that the event is about; a * at the end matches any rest"},
	{"peer", "other end: address, address:port, DNS name, workload id or group"},
	{"origin", "where the executed file came from: " + list(query.OriginWords())},
	{"text", "words that occur in executable, name, arguments, path, peer or DNS name"},
	{"since", "not older than: 15m, 24h, or a time as in RFC 3339"},
	{"until", "older than: as --since"},
}

func newEvents(g *globals) *cobra.Command {
	var o askOptions
	var follow, host, entered bool
	var limit int
	values := map[string]*[]string{}
	c := &cobra.Command{
		Use:   "events",
		Short: "Show what happened, or what happens",
		Long: `Show what happened, newest last, or with --follow what happens from now on.

Marks behind an event: "entered" came into the container from outside (docker
exec, ECS Exec); "written", "mount" and "memory" say that the executed
file did not come with the image; "socket" that a program was given a network
connection as its input or output; "claimed" that a path is what the process
said. ×N stands for N further times that nothing else was different. The form
json has every field, such as the layer of the image that a file came with.
` + exitHelp,
		Example: `  castellan events --follow
  castellan events --since 1h --entered
  castellan events --group shop/storefront/storefront --kind process.exec --text curl
  castellan events --kind file --path '/etc/*'
  castellan events --kind network,dns --peer example.org --follow`,
		Args: cobra.NoArgs,
	}
	o.flags(c)
	f := outputFlag(c)
	for _, e := range eventFilters {
		values[e.name] = c.Flags().StringSlice(e.name, nil, e.help)
	}
	c.Flags().BoolVar(&host, "host", false, "only processes of the host itself")
	c.Flags().BoolVar(&entered, "entered", false, "only what came into a container from outside")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "show events as they happen, until Ctrl-C")
	c.Flags().IntVarP(&limit, "limit", "n", 50, "how many, at most 1000")
	c.RunE = func(c *cobra.Command, _ []string) error {
		q := url.Values{}
		for name, v := range values {
			if len(*v) > 0 {
				q.Set(name, strings.Join(*v, ","))
			}
		}
		for name, set := range map[string]bool{"host": host, "entered": entered} {
			if set {
				q.Set(name, "true")
			}
		}
		q.Set("limit", strconv.Itoa(limit))
		if _, err := query.Events(q, time.Now()); err != nil {
			return usageError{err}
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		if follow {
			q.Del("limit")
			return g.follow(c.Context(), api, q, *f)
		}
		return g.events(c.Context(), api, q, *f)
	}
	return c
}

// events prints one page, oldest first, so that the newest is next to the prompt.
func (g *globals) events(ctx context.Context, api *client, q url.Values, f form) error {
	var page store.EventPage
	if err := api.get(ctx, "/events", q, &page); err != nil {
		return err
	}
	slices.Reverse(page.Events)
	return g.print(f, page, func() error {
		for i := range page.Events {
			if err := g.printEvent(&page.Events[i]); err != nil {
				return err
			}
		}
		switch {
		case page.Partial && page.Reached != nil:
			fmt.Fprintf(g.err, "searched back to %s; narrow with --since, --group or --executable, or search on with --until\n", page.Reached.Local().Format(time.DateTime))
		case len(page.Events) == 0:
			fmt.Fprintln(g.err, "nothing matches")
		}
		return nil
	})
}

// follow prints events as they come until ctx ends. A connection that breaks
// is taken up again behind the last event, so none is missed or shown twice.
func (g *globals) follow(ctx context.Context, api *client, q url.Values, f form) error {
	if f == formYAML {
		return usagef("--follow prints a table or json, not yaml")
	}
	last := ""
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := g.followOnce(ctx, api, q, f, &last)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !fault.Is(err, fault.Unavailable):
			return err
		case err != nil && last == "":
			return err
		}
		fmt.Fprintln(g.err, "castellan: connection lost; trying again")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (g *globals) followOnce(ctx context.Context, api *client, q url.Values, f form, last *string) error {
	if *last != "" {
		q.Set("after", *last)
	}
	resp, err := api.send(ctx, http.MethodGet, "/events/stream?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	err = readStream(resp.Body, func(m message) error {
		switch m.event {
		case "", "event", "message":
			var e event.Event
			if err := json.Unmarshal([]byte(m.data), &e); err != nil {
				return fmt.Errorf("read event: %w", err)
			}
			if m.id != "" {
				*last = m.id
			}
			if f == formJSON {
				return writeJSON(g.out, e, "")
			}
			return g.printEvent(&e)
		case "error":
			var p server.Problem
			if err := json.Unmarshal([]byte(m.data), &p); err != nil {
				return fmt.Errorf("read error of the stream: %w", err)
			}
			return fault.New(server.Kind(p.Status), "server: %s", p.Detail).With(p.Remedy)
		}
		return nil
	})
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) || ctx.Err() == nil && fault.Of(err) == fault.Unknown {
		return fault.New(fault.Unavailable, "stream ended: %w", errors.Join(err, io.EOF))
	}
	return err
}

// message is one server-sent event (WHATWG HTML, section 9.2).
type message struct{ event, id, data string }

// readStream hands over messages until the stream ends.
func readStream(r io.Reader, handle func(message) error) error {
	const longest = 1 << 20 // one event is bounded far below that
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), longest)
	var m message
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if m.data != "" {
				if err := handle(m); err != nil {
					return err
				}
			}
			m = message{}
		case field == "event":
			m.event = value
		case field == "id":
			m.id = value
		case field == "data" && m.data != "":
			m.data += "\n" + value
		case field == "data":
			m.data = value
		}
	}
	return lines.Err()
}

// printEvent prints one event as one line.
func (g *globals) printEvent(e *event.Event) error {
	action := strings.TrimPrefix(string(e.Kind), "process.")
	where := e.Group
	switch {
	case e.WorkloadID == "":
		where = "(host)"
	case where == "":
		where = asset.ShortID(e.WorkloadID)
	}
	const actionWidth, whereWidth = 15, 32
	line := fmt.Sprintf("%s  %-*s  %-*s  %s",
		g.paint(e.Time.Local().Format("15:04:05.000"), faint), actionWidth, action, whereWidth, cut(printable(where), whereWidth), printable(said(e)))
	if marks := g.marks(e); marks != "" {
		line += "  " + marks
	}
	_, err := fmt.Fprintln(g.out, line)
	return err
}

// said tells in words what the process did.
func said(e *event.Event) string {
	who := fmt.Sprintf("%s[%d]", e.Process.Name, e.Process.Key.PID)
	switch {
	case e.Exec != nil:
		what := untrusted.CommandLine(e.Exec.Args)
		if e.Exec.ArgsTruncated {
			what += " …"
		}
		if len(e.Exec.Args) == 0 || e.Exec.Args[0] != e.Process.Executable {
			what = e.Process.Executable + ": " + what
		}
		if e.Count > 1 {
			what += " ×" + strconv.FormatUint(e.Count, 10)
		}
		return who + " " + what
	case e.Exit != nil && e.Exit.Signal != 0:
		return fmt.Sprintf("%s %s killed by signal %d after %s", who, e.Process.Executable, e.Exit.Signal, lifetime(e.Exit.Lifetime))
	case e.Exit != nil:
		return fmt.Sprintf("%s %s exit code %d after %s", who, e.Process.Executable, e.Exit.Code, lifetime(e.Exit.Lifetime))
	}
	if e.Kind != event.KindFork {
		return who + " " + e.Words()
	}
	return fmt.Sprintf("%s by %d", who, e.Process.Parent.PID)
}

func lifetime(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// onSocket says that a program reads or writes a network connection.
func onSocket(x *event.Exec) bool {
	return slices.ContainsFunc(x.Stdio, func(s event.Stream) bool { return s.Remote.IsValid() })
}

// marks are the words that make an event worth a second look.
func (g *globals) marks(e *event.Event) string {
	var marks []string
	mark := func(set bool, word string, t tone) {
		if set {
			marks = append(marks, g.paint(word, t))
		}
	}
	if x := e.Exec; x != nil {
		mark(x.Entered, "entered", warn)
		mark(x.Origin == event.OriginWritten || x.Origin == event.OriginMemory, string(x.Origin), bad)
		mark(x.Origin == event.OriginMount, string(x.Origin), warn)
		mark(x.Deleted, "deleted", bad)
		mark(x.SetUID || x.SetGID, "set-uid", warn)
		mark(onSocket(x), "socket", warn)
		for _, v := range x.Environment {
			if name, _, _ := strings.Cut(v, "="); name == "LD_PRELOAD" || name == "LD_AUDIT" {
				mark(true, printable(v), warn)
			}
		}
	}
	if f := e.File; f != nil {
		const setID = 0o6000
		mark(f.Sensitive != "", "sensitive", warn)
		mark(f.Claimed, "claimed", faint)
		mark(e.Kind == event.KindFileChmod && f.Mode&setID != 0, "set-uid", bad)
	}
	mark(e.Connection != nil && e.Connection.Resumed, "open before", faint)
	mark(e.Failed() != "", "failed", warn)
	return strings.Join(marks, " ")
}
