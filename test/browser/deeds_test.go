package browser

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

// obeying is an agent of the shop that is asked for deeds, and answers when it is let.
type obeying struct {
	asked chan response.Deed
}

// obey has an agent of the shop listen until the test ends.
func (h *house) obey(t *testing.T) *obeying {
	t.Helper()
	o := &obeying{asked: make(chan response.Deed, 10)}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		who := link.Caller{AgentID: consoletest.AgentID, Boot: consoletest.Boot}
		_ = h.Intake().Directives(ctx, who, func(d link.Directive) { // it ends with the test
			if d.Kind == link.DirectiveRespond && d.Respond != nil {
				o.asked <- *d.Respond
			}
		})
	})
	t.Cleanup(func() { stop(); wg.Wait() })
	return o
}

// next is what is asked for next.
func (o *obeying) next(t *testing.T) response.Deed {
	t.Helper()
	select {
	case d := <-o.asked:
		return d
	case <-time.After(patience):
		t.Fatal("the agent was asked for nothing")
		return response.Deed{}
	}
}

func (h *house) answer(t *testing.T, a response.Answer) {
	t.Helper()
	if err := h.Intake().(link.Responses).Responded(t.Context(), link.Responded{AgentID: consoletest.AgentID, Answer: a}); err != nil {
		t.Fatal(err)
	}
}

// acts cuts a container off from the page of its incident, with the keyboard, sees the
// answer come in, and takes it back.
func (h *house) acts(t *testing.T, b *tab) {
	agent := h.obey(t)
	b.open("/incidents/1")
	b.wait(shows("Act now"))
	b.run(`document.querySelector(".acts a[href*='do=quarantine']").focus(); void 0`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wait(`location.pathname === "/responses/deeds/new" && document.activeElement.name === "reason"`)
	b.ready()
	b.lets(t, "the form of a deed")
	for _, width := range []int64{390, 1280} {
		b.size(width)
		if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
			t.Errorf("the form is %d pixels wide, of %d", got, width)
		}
		picture(b, map[int64]string{390: "deed-form-390-light", 1280: "deed-form-1280-light"}[width])
	}
	// It asks why before it does anything.
	b.click(`button.danger`)
	if got := b.address(); len(agent.asked) != 0 || got[:len("/responses/deeds/new")] != "/responses/deeds/new" {
		t.Errorf("without a reason it went to %s", got)
	}
	b.click(`[name=freeze]`)
	b.fill(`[name=reason]`, "case 42")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wait(`location.pathname.startsWith("/responses/deeds/") && document.querySelector("[role=status]")?.innerText.includes("is asked to do it")`)
	b.ready()
	b.lets(t, "a deed that is asked for")
	picture(b, "deed-asked-1280-light")
	d := agent.next(t)
	if d.Kind != response.Quarantine || !d.Freeze || d.Reason != "case 42" || d.By != "user:admin" {
		t.Errorf("the agent was asked for %+v", d)
	}
	h.answer(t, response.Answer{ID: d.ID, State: response.Done, Did: []string{"cut the network of the container", "froze 3 processes"}, Lacks: []string{"a process with CAP_NET_RAW could send frames; it is frozen"}, Undo: response.Release})
	b.wait(`document.querySelector("[role=status]").innerText.includes("It is done, but not all of it")`)
	b.lets(t, "a deed that has ended")
	for _, width := range []int64{390, 1280} {
		b.size(width)
		picture(b, map[int64]string{390: "deed-done-390-light", 1280: "deed-done-1280-light"}[width])
	}
	b.click(`a[href^="/audit?text="]`)
	b.wait(`location.pathname === "/audit" && document.querySelectorAll("table.audit tbody tr").length === 2 && ` + shows("respond.quarantine"))
	b.lets(t, "the audit log, searched")
	b.open("/incidents/1")
	b.wait(shows("in quarantine") + ` && ` + shows("quarantine, done"))
	picture(b, "incident-acted-1280-light")
	b.size(390)
	picture(b, "incident-acted-390-light")
	b.size(1280)
	b.click(`.acts a[href*='do=release']`)
	b.wait(`location.pathname === "/responses/deeds/new" && ` + shows("gets its network back"))
	b.ready()
	b.fill(`[name=reason]`, "it was a drill")
	b.click(`main form button.primary`)
	d = agent.next(t)
	h.answer(t, response.Answer{ID: d.ID, State: response.Done, Did: []string{"gave the network back"}})
	b.wait(shows("Gave the network back"))
	b.open("/responses")
	b.wait(shows("undone") + ` && ` + shows("Gave the network back"))
	b.lets(t, "responses")
	picture(b, "responses-done-1280-light")
}

// triesOnThePast writes response rules, and sees what they would have done about the
// incidents that there are, before anything holds.
func (h *house) triesOnThePast(t *testing.T, b *tab) {
	b.open("/responses/policy/edit")
	b.paste("responses:\n  - id: cut-all\n    title: All that is grave\n    owner: platform\n    on: {severity: medium}\n    do: [snapshot, quarantine]\n" +
		"  - id: told\n    owner: platform\n    on: {severity: low}\n    do: [stop]\n    dry_run: true\n")
	b.wait(`document.querySelector("#checked").dataset.say === "It can be used."`)
	b.fill(`[name=days]`, "30")
	b.click(`[value=try]`)
	b.wait(`document.querySelector("#h-trial") && document.querySelector("#trial").dataset.say.includes("of the last 30 days, these rules would have acted")`)
	b.wait(shows("Snapshot, then quarantine"))
	for _, width := range []int64{390, 1280} {
		b.size(width)
		if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
			t.Errorf("with a trial it is %d pixels wide, of %d", got, width)
		}
		b.lets(t, "the editor of response rules with a trial")
		picture(b, fmt.Sprintf("responses-tried-%d", width))
	}
	if !eval[bool](b, `document.querySelector("[name=after]").value === "0"`) { // and leaving would ask
		t.Error("a trial has made the text the policy")
	}
}

// resolvesSeveral ticks incidents of the list, which stay ticked while it moves, and
// resolves them.
func (h *house) resolvesSeveral(t *testing.T, b *tab) {
	b.open("/incidents?state=active")
	if eval[bool](b, `document.querySelector("#bulk").checkVisibility()`) {
		t.Error("nothing is ticked, and it can be resolved")
	}
	b.click(`[name=incident][value="2"]`)
	b.wait(`document.querySelector("#bulk").checkVisibility()`)
	b.wait(`document.querySelector("[data-live-part]").dataset.state === "live"`)
	picture(b, "incidents-ticked-1280-light")
	h.threaten(t) // the list moves
	b.wait(`document.querySelector("#i1").innerText.includes("92 times")`)
	if !eval[bool](b, `document.querySelector("[name=incident][value='2']").checked`) {
		t.Error("what came in has unticked it")
	}
	b.run(`document.querySelector("#bulk [name=resolution]").value = "harmless"`)
	b.fill(`#bulk [name=comment]`, "it was us")
	b.click(`#bulk button`)
	b.wait(`location.search === "?state=active&done=incidents-resolved" && !document.querySelector("#i2")`)
}
