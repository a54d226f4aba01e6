package console

import (
	"net/http"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
)

// notices are what a page says after something was done, by the word in the
// address: the sentence itself never travels.
var notices = map[string]string{
	"password":           "Your password is changed. Sign in with the new one.",
	"everywhere":         "You are signed out everywhere.",
	"signed-out":         "You are signed out.",
	"user-created":       "The user is created. The first sign-in asks for a new password.",
	"user-role":          "The role is changed. The user has to sign in again.",
	"user-disable":       "The user is disabled and signed out.",
	"user-enable":        "The user may sign in again.",
	"user-reset":         "The password is reset. The next sign-in asks for a new one.",
	"user-delete":        "The user is deleted, with sessions and tokens.",
	"agent-revoked":      "The agent is cut off: its certificates have ended.",
	"silenced":           "It is not heard there any more; agents are told at once.",
	"unsilenced":         "It is heard again.",
	"incident-assign":    "It is assigned.",
	"incident-unassign":  "It is open for somebody else.",
	"incident-comment":   "The comment is in the timeline.",
	"incident-resolve":   "It is resolved.",
	"incident-reopen":    "It is open again.",
	"incidents-resolved": "The chosen incidents are resolved.",
	"responses-set":      "These are the response rules now. They hold for what happens from now on.",
	"rules-set":          "The rules are in force. Agents are told at once.",
	"rules-removed":      "The document is removed. Its rules are not held against anything any more.",
	"no-event":           "That event is not stored, or not any more. These are the events of its kind around its time.",
	"rescan":             "The image waits for a new scan. It begins within seconds.",
	"accepted":           "It is accepted, which counts within seconds. Until that ends it is in no list of what is open.",
	"accept-ended":       "The acceptance has ended. What it accepted counts again within seconds.",
	"owner-set":          "The owner is named, which shows within seconds.",
	"owner-removed":      "The rule is gone. What only it named is nobody's now.",
	"token-revoked":      "The token is revoked. Requests with it are refused from now on.",
	"registry-created":   "It is watched from now on. Its images appear as it is looked at.",
	"registry-changed":   "The registry is changed, and looked at anew.",
	"registry-checked":   "The registry is looked at now.",
	"registry-removed":   "The registry is not watched any more.",
	"registry-rescan":    "The image waits for a new scan.",
	"target-tested":      "The target has taken a test.",
	"target-changed":     "The target is changed. Test it, to see that it is reached.",
	"target-removed":     "The target is removed. It is told nothing more.",
	"admission-set":      "It is the admission policy now. It holds at once, and agents are told.",
	"exception-made":     "The exception holds at once, and agents are told.",
	"exception-ended":    "The exception is withdrawn. Its rules count again at once.",
	"group-discover":     "The group learns from now on. Nothing of it is reported or blocked.",
	"group-monitor":      "The group is monitored. Hosts are told at once; nothing of it is blocked.",
	"group-protect":      "The group is protected. Hosts are told at once.",
	"group-declined":     "The proposal is declined. It comes again when it has been settled for as long again.",
	"group-controls":     "The controls are set. Hosts are told at once.",
	"group-promotion":    "It is set for this group.",
	"fleet-promotion":    "It is set for all groups that have nothing of their own.",
	"group-limits":       "The limits are set. Hosts are told at once.",
	"group-released":     "Nothing of the group is blocked any more, until it is held again.",
	"group-armed":        "The group is held again.",
	"group-forgotten":    "The group is forgotten. It is learned anew from what it does from now on.",
	"entry-added":        "It is permitted now. Hosts are told at once.",
	"entry-removed":      "It is permitted no more. Hosts are told at once.",
	"profile-started":    "The starting profile is added.",
	"profile-set":        "It is the profile now. Hosts are told at once.",
	"permitted":          "It is normal now. Hosts are told at once. If that was wrong, undo it below.",
	"permit-undone":      "It is undone: exactly what it added is permitted no more.",
	"policy-set":         "It is the trust policy now. What runs is verified anew by it.",
	"dead-retried":       "What was given up is delivered now.",
	"dead-dropped":       "What was given up is dropped. Nobody is told of it.",
}

// signInForm is what the sign-in page shows again after a refusal.
type signInForm struct {
	Name    string
	Next    string
	Problem string
}

func (c *Console) signInPage(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.URL.Query().Get("next"))
	if _, csrf, ok := account.From(r.Context()); ok && csrf != "" {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	c.askAgain(w, r, http.StatusOK, signInForm{Next: next})
}

func (c *Console) askAgain(w http.ResponseWriter, r *http.Request, status int, f signInForm) {
	v := visit{now: c.Clock()}
	if err := c.show(w, r, status, signInBody(c.page(r, v, "", "Sign in"), f)); err != nil {
		c.fail(w, r, v, err)
	}
}

// signIn starts a session. A form from another site is refused before this is
// reached (http.CrossOriginProtection), since there is no session yet whose
// token it could carry.
func (c *Console) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		c.fail(w, r, visit{now: c.Clock()}, fault.New(fault.Invalid, "read the form: %w", err))
		return
	}
	f := signInForm{Name: r.PostForm.Get("name"), Next: localPath(r.PostForm.Get("next"))}
	cookie, session, err := c.Account.SignIn(r.Context(), f.Name, r.PostForm.Get("password"), address(r))
	if err != nil {
		said, ok := refused(err)
		if !ok {
			c.fail(w, r, visit{now: c.Clock()}, err)
			return
		}
		f.Problem = said
		c.askAgain(w, r, c.Status(err), f)
		return
	}
	http.SetCookie(w, account.Cookie(cookie, session))
	http.Redirect(w, r, f.Next, http.StatusSeeOther)
}

func (c *Console) signOut(w http.ResponseWriter, r *http.Request, v visit) error {
	k, err := r.Cookie(account.CookieName)
	if err == nil {
		if err := c.Account.SignOut(r.Context(), k.Value, v.who); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	http.SetCookie(w, account.NoCookie())
	redirect(w, r, "/sign-in?done=signed-out")
	return nil
}
