package trial

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
)

// The account and region of calls that say nothing of it.
const (
	account = "123456789012"
	region  = "eu-west-1"
)

// callOf reads a call of AWS. What it leaves out: by is "role ci", from 198.51.100.7,
// agent that of aws-cli. by is who called: task ID, instance ID, role NAME, user NAME,
// root, service NAME; session is the name of a role's session, role that of a task's.
func callOf(m Event, e *event.Event) error {
	c := &event.Call{Account: account, Region: region, Type: "AwsApiCall", Source: "198.51.100.7", Agent: "aws-cli/2.17.0"}
	e.Call, e.AgentID = c, ""
	if e.WorkloadID == "w1" { // that nothing was said of
		e.WorkloadID, e.Group = "", ""
	}
	e.Process = event.Process{}
	name, by, role, session := "", "role ci", "", "s1"
	take(m, "call", &name)
	take(m, "by", &by)
	take(m, "role", &role)
	take(m, "session", &session)
	for key, to := range map[string]*string{
		"account": &c.Account, "region": &c.Region, "type": &c.Type, "from": &c.Source, "agent": &c.Agent, "endpoint": &c.Endpoint, "error": &c.Error,
	} {
		take(m, key, to)
	}
	var ok bool
	if c.Service, c.Name, ok = strings.Cut(name, ":"); !ok {
		return fmt.Errorf("call %q: want service:Operation", name)
	}
	c.Read, _ = m["read"].(bool)
	delete(m, "read")
	c.Actor = actorOf(by, role, session, c.Account)
	take(m, "via", &c.Actor.Via)
	take(m, "key", &c.Actor.Key)
	take(m, "delivery", &c.Actor.Delivery)
	c.Actor.MFA, _ = m["mfa"].(bool)
	delete(m, "mfa")
	for key, to := range map[string]*json.RawMessage{"request": &c.Request, "response": &c.Response, "extra": &c.Extra} {
		if m[key] == nil {
			continue
		}
		b, err := json.Marshal(m[key])
		if err != nil {
			return err
		}
		*to = b
		delete(m, key)
	}
	if m["home"] != nil {
		b, err := json.Marshal(m["home"])
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &c.Home); err != nil {
			return err
		}
		delete(m, "home")
	}
	c.ID = fmt.Sprintf("00000000-0000-4000-8000-%012d", e.Time.UnixMicro()%1e12)
	for k := range m {
		return fmt.Errorf("a call has no %s", k)
	}
	return nil
}

func actorOf(by, role, session, account string) event.Actor {
	kind, name, _ := strings.Cut(by, " ")
	a := event.Actor{Account: account, Name: name, Key: "ASIAEXAMPLE"}
	switch kind {
	case "task", "instance":
		session = name
		if a.Name = role; role == "" {
			a.Name = "shop-" + kind
		}
		fallthrough
	case "role":
		a.Type, a.Session = "AssumedRole", session
		a.Role = "arn:aws:iam::" + account + ":role/" + a.Name
		a.ARN = "arn:aws:sts::" + account + ":assumed-role/" + a.Name + "/" + session
	case "user":
		a.Type, a.ARN, a.Key = "IAMUser", "arn:aws:iam::"+account+":user/"+name, "AKIAEXAMPLE"
	case "root":
		a.Type, a.ARN = "Root", "arn:aws:iam::"+account+":root"
	case "service":
		a = event.Actor{Type: "AWSService", Via: name}
	}
	return a
}
