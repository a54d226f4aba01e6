package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/castellan-security/castellan/internal/need"
)

// patience bounds everything that a test waits for: this machine may be busy.
const patience = 30 * time.Second

// launch starts one browser for all tabs of a test.
func launch(t *testing.T) context.Context {
	t.Helper()
	path := need.Browser(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-sync", true),
		// What chromedp has, and the address bar's popup, which is a page that nobody sees
		// and that takes as much as those that are looked at.
		chromedp.Flag("disable-features", "Translate,BlinkGenPropertyTrees,WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup"),
		chromedp.UserDataDir(t.TempDir()),
	)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		closeBrowser()
		cancel()
	})
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// tab is one page in the browser. What its console complains about fails the
// test when the tab closes.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex
	troubles []string
	expected []string // parts of complaints that belong to the test
}

// tab opens a tab; tabs of one browser share its cookies.
func (h *house) tab(t *testing.T, browser context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t, base: h.base}
	ctx, closeTab := chromedp.NewContext(browser, append(options, chromedp.WithListener(b.listen))...)
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	b.ctx = ctx
	t.Cleanup(func() {
		cancel()
		closeTab()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, s := range b.troubles {
			t.Errorf("the browser complains: %s", s)
		}
	})
	b.do(chromedp.Navigate("about:blank"))
	call(b, cdplog.Enable, cdp.Empty{})
	b.size(1280)
	return b
}

func (b *tab) listen(ev any) {
	var says string
	switch e := ev.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type != "error" && e.Type != "warning" && e.Type != "assert" {
			return
		}
		for _, a := range e.Args {
			says += string(a.Value) + " "
		}
	case *runtime.EventExceptionThrown:
		says = e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			says += " " + e.ExceptionDetails.Exception.Description
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == "verbose" || e.Entry.Level == "info" {
			return
		}
		says = e.Entry.Text + " " + e.Entry.URL
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, part := range b.expected {
		if strings.Contains(says, part) {
			return
		}
	}
	b.troubles = append(b.troubles, says)
}

// expect says that a complaint with this part in it belongs to the test.
func (b *tab) expect(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, part)
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

func call[P, R any](b *tab, cmd cdp.Command[P, R], params P) R {
	b.t.Helper()
	r, err := chromedp.Call(b.ctx, cmd, params)
	if err != nil {
		b.t.Fatalf("%s: %v", cmd.Method, err)
	}
	return r
}

// eval runs a script and returns what it says.
func eval[T any](b *tab, script string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("evaluate %.200s: %v", script, err)
	}
	return v
}

// run evaluates a script for what it does.
func (b *tab) run(script string) {
	b.t.Helper()
	eval[chromedp.Void](b, script)
}

// wait asks again until the script says true. While a page is being replaced
// there is nothing to ask, so errors count as not yet.
func (b *tab) wait(script string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	again := time.NewTicker(25 * time.Millisecond)
	defer again.Stop()
	for {
		yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+script+")"))
		if err == nil && yes {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			now := eval[string](b, `location.href + " | " + document.title + " | " + document.body.innerText.slice(0, 400)`)
			b.t.Fatalf("waited in vain for %s (last error %v); the page is %s", script, err, now)
		}
	}
}

// open goes to an address of the console and waits until its script has run.
func (b *tab) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + path))
	b.ready()
}

func (b *tab) ready() {
	b.t.Helper()
	b.wait(`document.readyState === "complete" && document.fonts.status === "loaded"`)
}

// address is the path and query of the page.
func (b *tab) address() string {
	b.t.Helper()
	return eval[string](b, "location.pathname + location.search")
}

// size makes the window so wide; a narrow one is a telephone.
func (b *tab) size(width int64) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: 860, DeviceScaleFactor: 1, Mobile: width < 600,
	})
}

// colours sets what the system prefers, and stops what moves.
func (b *tab) colours(scheme string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// shows is a script that says whether the page has the text.
func shows(text string) string {
	return fmt.Sprintf("document.querySelector('main').innerText.includes(%s)", quote(text))
}

// click clicks the first element that a selector finds.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.wait(fmt.Sprintf("document.querySelector(%s)", quote(selector)))
	b.run(fmt.Sprintf("void document.querySelector(%s).click()", quote(selector)))
}

// fill types into a field as a person does, its old text replaced.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.run(fmt.Sprintf("{const f = document.querySelector(%s); f.focus(); f.select()}", quote(selector)))
	b.do(chromedp.KeyEvent(text))
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return string(b)
}

// signIn signs the administrator in.
func (h *house) signIn(t *testing.T, browser context.Context) {
	t.Helper()
	b := h.tab(t, browser)
	b.open("/")
	b.fill(`[name="name"]`, "admin")
	b.fill(`[name="password"]`, h.password)
	b.click(`form button`)
	b.wait(`location.pathname === "/" && document.querySelector("nav")`)
}
