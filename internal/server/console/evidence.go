package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// evidenceHref is where the event that evidence names is found: by its number where
// that is known, else by what an agent numbers it with. Agents don't know the numbers
// that events get. It is "" for what is no event of a host.
func evidenceHref(agents []string, e *threat.Evidence) string {
	if !slices.Contains(event.Kinds(), e.Kind) {
		return ""
	}
	if e.ID != 0 {
		return "/events/" + strconv.FormatInt(e.ID, 10)
	}
	v := url.Values{"boot": {e.Boot}, "seq": {strconv.FormatUint(e.Seq, 10)}, "kind": {string(e.Kind)}, "time": {e.Time.UTC().Format(time.RFC3339Nano)}}
	if len(agents) == 1 {
		v.Set("agent", agents[0])
	}
	return "/events/at?" + v.Encode()
}

// evidence leads to the event that an agent has given a number: a boot, and a number
// in it, at a time. Where it is not stored it leads to those around it.
func (c *Console) evidence(w http.ResponseWriter, r *http.Request, _ visit) error {
	asked := r.URL.Query()
	at, err := time.Parse(time.RFC3339Nano, asked.Get("time"))
	if err != nil {
		return fault.New(fault.Invalid, "%.60q is no time of an event", asked.Get("time"))
	}
	seq, err := strconv.ParseUint(asked.Get("seq"), 10, 64)
	if err != nil || asked.Get("boot") == "" {
		return fault.New(fault.Invalid, "%.60q is no number that an agent gives", asked.Get("seq"))
	}
	q := store.EventQuery{Kinds: []event.Kind{event.Kind(asked.Get("kind"))}, AgentID: asked.Get("agent"), Since: at, Until: at.Add(time.Microsecond), Limit: store.MaxPage}
	page, err := c.Store.Events(r.Context(), q)
	if err != nil {
		return err
	}
	for i := range page.Events {
		if e := &page.Events[i]; e.Boot == asked.Get("boot") && e.Seq == seq {
			redirect(w, r, "/events/"+strconv.FormatInt(e.ID, 10))
			return nil
		}
	}
	from := at.UTC().Truncate(time.Second)
	redirect(w, r, eventsOf("kind", asked.Get("kind"), "agent", asked.Get("agent"), "since", from.Format(time.RFC3339), "until", from.Add(time.Second).Format(time.RFC3339))+"&done=no-event")
	return nil
}
