package images

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/store"
)

// Limits of scans as jobs.
const (
	// maxScans bounds the scans that run at once over the fleet: each ends in an
	// inventory that this server decodes, stores and compares.
	maxScans = 16
	// leaseFor is how long an agent has for one image. The largest that we know
	// take a minute on a small host.
	leaseFor = 10 * time.Minute
	// maxTries is when an image is given up: by then it was tried for hours, on
	// every host that has it.
	maxTries = 5
	// firstPause follows the first try that failed; each further one is
	// pauseGrows times as long.
	firstPause = time.Minute
	pauseGrows = 5
	maxPause   = 2 * time.Hour
)

// happened is what became of a try to scan an image.
type happened int

const (
	handedOut happened = iota // the store gave the image to an agent
	answered                  // the agent sent an inventory
	failed                    // it says that it could not, or its inventory is none
	overdue                   // its time is over
)

// input is something that happened to a try.
type input struct {
	what       happened
	agent, job string
	now        time.Time
	why        string // of failed, in words, with what helps
	final      bool   // of failed: another try would end the same
	// unused is of failed: the agent's engine has no such image any more, and no
	// container of it is left anywhere.
	unused bool
}

// deed is what is to be done about it.
type deed int

const (
	refuse deed = iota // the try is not the image's own any more, or comes too late
	send               // tell the agent
	keep               // store the inventory
	again              // let the image wait until effect.at
	giveUp
	letGo // there is no such image any more
)

// effect is a deed with what it needs.
type effect struct {
	deed deed
	at   time.Time
	why  string // of refuse, again, giveUp and letGo
}

// step says what follows for the scan of an image from what happened. It is all
// that there is to the life of a job; the store keeps where it is.
func step(s store.Scan, in input) effect {
	if s.State != store.ScanRunning || s.Job != in.job || s.Agent != in.agent {
		return effect{deed: refuse, why: "the scan was taken from the agent, or asked for anew"}
	}
	switch in.what {
	case handedOut:
		if s.Tries > maxTries {
			return effect{deed: giveUp, why: lastWords(s)}
		}
		return effect{deed: send}
	case answered:
		// However late: the image is the same, and nobody else is at it yet.
		return effect{deed: keep}
	case overdue:
		if !in.now.After(s.Next) {
			return effect{deed: refuse, why: "its time is not over"}
		}
		in.why = fmt.Sprintf("agent %s did not answer within %s", in.agent, leaseFor)
	}
	if in.unused {
		return effect{deed: letGo, why: in.why}
	}
	if in.final || s.Tries >= maxTries {
		return effect{deed: giveUp, why: in.why}
	}
	return effect{deed: again, at: in.now.Add(pause(s.Tries)), why: in.why}
}

// lastWords says why an image is given up that was handed out once too often:
// the server was away while the last try ended.
func lastWords(s store.Scan) string {
	if s.Error != "" {
		return s.Error
	}
	return fmt.Sprintf("no agent answered in %d tries", maxTries)
}

// pause is how long an image waits after that many tries.
func pause(tries int) time.Duration {
	p := firstPause
	for range tries - 1 {
		if p *= pauseGrows; p > maxPause {
			return maxPause
		}
	}
	return p
}
