package asset

import (
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// Trail is a queue of Amazon SQS through which CloudTrail tells what is called in AWS,
// as somebody configured it. It holds no credentials.
type Trail struct {
	Name  string `json:"name" doc:"Small letters, digits and hyphens"`
	Queue string `json:"queue" doc:"URL of the queue: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"`
	// Role is the ARN of a role of another account that is assumed for it.
	Role       string `json:"role,omitempty" doc:"ARN of a role that is assumed to read it: for another account"`
	ExternalID string `json:"external_id,omitempty" doc:"What the role's trust policy asks for beside"`
	// Quiet is how long nothing may come before that is told; zero is DefaultQuiet.
	Quiet time.Duration `json:"quiet,omitempty" doc:"How long nothing may come before that is told, in nanoseconds; 12 hours unless given"`
}

// DefaultQuiet is how long nothing may come of a trail: an account in which tasks run
// calls AWS all the time.
const DefaultQuiet = 12 * time.Hour

// TrailCounts are what came of a trail.
type TrailCounts struct {
	Calls      int `json:"calls" doc:"Calls of AWS that were read"`
	Skipped    int `json:"skipped" doc:"Records that tell of no call"`
	Unreadable int `json:"unreadable" doc:"Records that could not be read"`
	Strays     int `json:"strays" doc:"Messages that could not be read, and stay in the queue"`
}

var (
	trailName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	roleARN   = sync.OnceValue(func() *regexp.Regexp { // 350 KB, which few processes need
		return regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}$`)
	})
)

// Check returns what is wrong with it: an error of the kind Invalid.
func (t *Trail) Check() error {
	const longest = 63
	if len(t.Name) > longest || !trailName.MatchString(t.Name) {
		return fault.New(fault.Invalid, "a trail can't be called %.80q", t.Name).With("small letters, digits and hyphens, such as production")
	}
	u, err := url.Parse(t.Queue)
	parts := []string{}
	if err == nil {
		parts = strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	}
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(parts) != 2 || len(parts[0]) != 12 || parts[1] == "" || len(t.Queue) > 512 {
		return fault.New(fault.Invalid, "%.200q is no queue's URL", t.Queue).With("copy it from the queue's page: https://sqs.eu-west-1.amazonaws.com/123456789012/castellan-trail")
	}
	if t.Role != "" && !roleARN().MatchString(t.Role) {
		return fault.New(fault.Invalid, "%.200q is no ARN of a role", t.Role).With("write arn:aws:iam::123456789012:role/NAME")
	}
	if t.Role == "" && t.ExternalID != "" || len(t.ExternalID) > 1224 {
		return fault.New(fault.Invalid, "an external id is for a role that is assumed")
	}
	if t.Quiet < 0 || t.Quiet > 30*24*time.Hour {
		return fault.New(fault.Invalid, "quiet is %s: want up to 720h", t.Quiet)
	}
	return nil
}
