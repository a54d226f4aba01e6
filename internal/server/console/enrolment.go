package console

import (
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
)

// invite makes an invitation and shows the command with its token in the answer
// itself: it has no address, and no cache may keep it.
func (c *Console) invite(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Enrolment == nil {
		return c.nowhere(w, r, v)
	}
	d := agentsData{Name: r.PostForm.Get("name")}
	made, token, err := c.Enrolment.Invite(r.Context(), v.who, d.Name, 0)
	if err == nil {
		command := "castellan agent join --server https://" + r.Host + " --ca-fingerprint " + c.Fingerprint + " --token " + token
		return c.showAgents(w, r, v, http.StatusCreated, agentsData{Command: command, Expires: made.Expires, Name: made.Name})
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	d.Problem = said
	return c.showAgents(w, r, v, c.Status(err), d)
}

func (c *Console) revokeAgent(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Enrolment == nil {
		return c.nowhere(w, r, v)
	}
	id := r.PathValue("id")
	if _, err := c.Store.Agent(r.Context(), id); err != nil {
		return err
	}
	if _, err := c.Enrolment.Revoke(r.Context(), v.who, id); err != nil {
		return err
	}
	redirect(w, r, "/agents/"+id+"?done=agent-revoked")
	return nil
}

// clockWord says which way a clock differs.
func clockWord(d time.Duration) string {
	if d < 0 {
		return "behind"
	}
	return "ahead of"
}

// certificateWords say how long an agent is trusted, and how that looks.
func certificateWords(k access.Certificate, now time.Time) (string, tone) {
	switch {
	case k.Revoked != nil:
		return "revoked " + moment(*k.Revoked), danger
	case k.Expires.Before(now):
		return "ended " + moment(k.Expires), danger
	case k.Expires.Sub(now) < 48*time.Hour: // agents renew long before
		return "ends " + moment(k.Expires), warn
	}
	return "good until " + day(k.Expires), good
}

// plainSettings reports that nobody has set anything for the agent from here.
func plainSettings(s asset.AgentSettings) bool {
	return len(s.SensorsOff) == 0 && len(s.SensitivePaths) == 0 && s.Window == 0
}
