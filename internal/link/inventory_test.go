package link_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/proto/linkv1"
	"github.com/castellan-security/castellan/proto/linkv1/linkv1connect"
)

// scanning is a link.Server that takes inventories.
type scanning struct {
	serverFunc
	take func(context.Context, link.Scanned) error
}

func (scanning) Report(context.Context, link.Report) (link.Receipt, error) {
	return link.Receipt{}, nil
}

func (s scanning) Inventory(ctx context.Context, a link.Scanned) error { return s.take(ctx, a) }

func scanServer(t *testing.T, take func(context.Context, link.Scanned) error) *link.Client {
	t.Helper()
	path, h := link.Handler(scanning{take: take}, nil, gate{}, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	return client(t, mux)
}

func TestAnswersToScansArriveAsTheyWereSent(t *testing.T) {
	for name, sent := range map[string]link.Scanned{
		"an inventory":      {Job: "j", ImageID: "sha256:1", Inventory: []byte{0x28, 0xb5, 0x2f, 0xfd, 0}},
		"the largest":       {Job: "j", ImageID: "sha256:1", Inventory: bytes.Repeat([]byte{7}, link.MaxInventory)},
		"an error":          {Job: "j", ImageID: "sha256:1", Error: "no such image", Remedy: "pull it", Final: true},
		"a lost image":      {Job: "j", ImageID: "sha256:1", Error: "no such image", Missing: true},
		"text that is none": {Job: "j", ImageID: "sha256:1", Error: "\xff"},
	} {
		t.Run(name, func(t *testing.T) {
			var got link.Scanned
			c := scanServer(t, func(_ context.Context, s link.Scanned) error { got = s; return nil })
			said := sent
			said.AgentID = "SOMEBODYELSE"
			if err := c.Inventory(t.Context(), said); err != nil {
				t.Fatal(err)
			}
			sent.AgentID = full().Agent.ID // the certificate says it
			sent.Error = strings.ToValidUTF8(sent.Error, "\ufffd")
			if diff := cmp.Diff(sent, got, cmp.Comparer(bytes.Equal)); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnswersThatAreNoneAreRefusedOnBothSides(t *testing.T) {
	called := false
	take := func(context.Context, link.Scanned) error { called = true; return nil }
	c := scanServer(t, take)
	path, h := link.Handler(scanning{take: take}, nil, gate{}, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	raw, server := rawClient(t, mux)
	for name, s := range map[string]link.Scanned{
		"neither":        {Job: "j", ImageID: "i"},
		"both":           {Job: "j", ImageID: "i", Inventory: []byte{1}, Error: "x"},
		"no job":         {ImageID: "i", Error: "x"},
		"no image":       {Job: "j", Error: "x"},
		"too large":      {Job: "j", ImageID: "i", Inventory: make([]byte, link.MaxInventory+1)},
		"a long error":   {Job: "j", ImageID: "i", Error: strings.Repeat("x", link.MaxScanText+1)},
		"a long remedy":  {Job: "j", ImageID: "i", Error: "x", Remedy: strings.Repeat("x", link.MaxScanText+1)},
		"a long name":    {Job: strings.Repeat("x", link.MaxScanText+1), ImageID: "i", Error: "x"},
		"far too large":  {Job: "j", ImageID: "i", Inventory: make([]byte, link.MaxInventory+1<<20)},
		"beyond a frame": {Job: "j", ImageID: "i", Inventory: make([]byte, link.MaxMessage+1)},
	} {
		if err := c.Inventory(t.Context(), s); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
		_, err := linkv1connect.NewLinkServiceClient(raw, server).Inventory(t.Context(), connect.NewRequest(&linkv1.InventoryRequest{
			Job: s.Job, ImageId: s.ImageID, Inventory: s.Inventory, Error: s.Error, Remedy: s.Remedy,
		}))
		if code := connect.CodeOf(err); err == nil || code != connect.CodeInvalidArgument && code != connect.CodeResourceExhausted {
			t.Errorf("%s, from who does not check: got %v, want invalid_argument or resource_exhausted", name, err)
		}
	}
	if called {
		t.Error("an answer beyond the limits was carried")
	}
}

func TestErrorsOfInventoriesKeepTheirKind(t *testing.T) {
	for _, k := range []fault.Kind{fault.Conflict, fault.Invalid, fault.Unavailable, fault.Unsupported} {
		c := scanServer(t, func(context.Context, link.Scanned) error { return fault.New(k, "no") })
		if err := c.Inventory(t.Context(), link.Scanned{Job: "j", ImageID: "i", Error: "x"}); fault.Of(err) != k {
			t.Errorf("got %v (%v), want %v", err, fault.Of(err), k)
		}
	}
}

// older is a server from before inventories, by what the generated code of then
// does.
type older struct {
	linkv1connect.UnimplementedLinkServiceHandler
}

func TestAServerFromBeforeInventoriesIsUnsupported(t *testing.T) {
	known := http.NewServeMux()
	known.Handle(linkv1connect.NewLinkServiceHandler(older{}))
	for name, h := range map[string]http.Handler{
		"that has no such path": http.NotFoundHandler(),
		"that says so":          known,
	} {
		err := client(t, h).Inventory(t.Context(), link.Scanned{Job: "j", ImageID: "i", Inventory: make([]byte, 1<<20)})
		if !fault.Is(err, fault.Unsupported) || fault.Remedy(err) == "" {
			t.Errorf("%s: got %v, want unsupported with a remedy", name, err)
		}
	}
}

// TestInventoriesDoNotHoldUpReports holds that an agent reports on while its
// inventory waits, unread, for a server that has enough to do with others.
func TestInventoriesDoNotHoldUpReports(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	path, h := link.Handler(scanning{take: func(context.Context, link.Scanned) error {
		entered <- struct{}{}
		<-leave
		return nil
	}}, nil, gate{}, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	const read = 4 // see maxInventories
	errs := make(chan error, read+1)
	send := func(c *link.Client) {
		errs <- c.Inventory(t.Context(), link.Scanned{Job: "j", ImageID: "i", Inventory: make([]byte, 4<<20)})
	}
	for range read {
		go send(client(t, mux))
	}
	for range read {
		<-entered
	}
	c := client(t, mux)
	go send(c)
	for range 10 {
		if _, err := c.Report(t.Context(), full()); err != nil {
			t.Errorf("report beside an inventory that waits: %v", err)
		}
	}
	leave <- struct{}{}
	<-entered
	for range read {
		leave <- struct{}{}
	}
	for range read + 1 {
		if err := <-errs; err != nil {
			t.Errorf("inventory: %v", err)
		}
	}
}
