package console

import (
	"crypto/rand"
	"net/http"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// trouble is an error as a person sees it.
type trouble struct {
	Status int
	What   string
	Remedy string
	ID     string // of an unexpected error, to be found in the server's log
}

// fail shows err as a page. An error that nobody classified shows nothing of
// itself but an id, under which the log has it.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, v visit, err error) {
	t := trouble{Status: c.Status(err), What: err.Error(), Remedy: fault.Remedy(err)}
	if fault.Is(err, fault.Unknown) || t.Status >= http.StatusInternalServerError {
		t.ID = strings.ToLower(rand.Text()[:10])
		c.Log.ErrorContext(r.Context(), "console page failed",
			"error_id", t.ID, "method", r.Method, "path", r.URL.Path, "error", err)
		if fault.Is(err, fault.Unknown) {
			t.What = "Something went wrong on the server."
			t.Remedy = ""
		}
	}
	c.showTrouble(w, r, v, t)
}

func (c *Console) showTrouble(w http.ResponseWriter, r *http.Request, v visit, t trouble) {
	if r.Header.Get("Accept") == "text/event-stream" {
		http.Error(w, t.What, t.Status)
		return
	}
	p := c.page(r, v, "", t.heading())
	if err := c.show(w, r, t.Status, troublePage(p, t)); err != nil {
		http.Error(w, t.heading(), t.Status)
	}
}

func (t trouble) heading() string {
	switch t.Status {
	case http.StatusNotFound:
		return "Not found"
	case http.StatusForbidden:
		return "Not permitted"
	case http.StatusConflict:
		return "Not possible any more"
	case http.StatusServiceUnavailable, http.StatusInsufficientStorage, http.StatusTooManyRequests:
		return "Not now"
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return "Not understood"
	}
	return "Something broke"
}

func (c *Console) nowhere(w http.ResponseWriter, r *http.Request, v visit) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		c.showTrouble(w, r, v, trouble{Status: http.StatusMethodNotAllowed, What: "This address takes no such request."})
		return nil
	}
	c.showTrouble(w, r, v, trouble{
		Status: http.StatusNotFound,
		What:   "There is no page at " + untrusted.Text(r.URL.Path) + ".",
		Remedy: "It may have moved, or the address has a typing mistake. The overview leads everywhere.",
	})
	return nil
}

// refused tells whether err is an answer to what somebody typed, to be shown
// beside the form, and how to say it.
func refused(err error) (string, bool) {
	switch fault.Of(err) {
	case fault.Invalid, fault.Conflict, fault.Exhausted, fault.Unauthenticated:
		return sentence(err), true
	}
	return "", false
}

// unlisted is why a list can't be shown, in words that stand in its place, and the
// status that the page gets: what its address asks for makes no sense. Any other
// error is returned.
func (c *Console) unlisted(err error) (said string, status int, _ error) {
	said, ok := refused(err)
	if !ok {
		return "", 0, err
	}
	return said, c.Status(err), nil
}

// sentence makes an error a sentence, with its remedy behind it.
func sentence(err error) string {
	s := capital(untrusted.Text(err.Error()))
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	if remedy := fault.Remedy(err); remedy != "" {
		s += " " + capital(untrusted.Text(remedy))
		if !strings.HasSuffix(s, ".") {
			s += "."
		}
	}
	return s
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
