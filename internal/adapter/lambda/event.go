package lambda

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// Event is what an invocation asks, by whoever asks it: one of its fields is set.
type Event struct {
	Service  *ServiceHook
	Template *TemplateHook
	Task     *TaskChange
}

// ServiceHook is a call of the lifecycle hook of a service's deployment.
type ServiceHook struct {
	Execution string     // id of this execution of the hook
	Stage     string     // PRE_SCALE_UP, …
	Revision  string     // ARN of the service's revision that is to be deployed
	At        asset.ECS  // account, region, cluster and service
	Back      bool       // the deployment is being rolled back: it is not to be deployed any more
	Asked     int        // how often we have asked to be asked again
	Details   HookDetail // as they came
}

// HookDetail is what ECS keeps for us from one call of a hook to the next; what
// users configure for the hook is among it, and ours to leave alone.
type HookDetail map[string]json.RawMessage

// TemplateHook is a call of CloudFormation's hook.
type TemplateHook struct {
	Token   string // to be given back
	Account string
	Stack   string // ARN, empty for calls by Cloud Control
	Point   string // CREATE_PRE_PROVISION, …
	Kind    TargetKind
	Type    string          // of a resource: AWS::ECS::Service
	Name    string          // logical id, name of the stack, ARN of the change set
	Model   json.RawMessage // of a resource: its properties as they shall be
	Payload string          // of stacks and change sets: where the template is
	Asked   int             // the number of this call, from 1
}

// TargetKind is what a hook of CloudFormation is about.
type TargetKind string

// The kinds.
const (
	TargetResource  TargetKind = "RESOURCE"
	TargetStack     TargetKind = "STACK"
	TargetChangeSet TargetKind = "CHANGE_SET"
)

// TaskChange is a change of a task's state that EventBridge tells.
type TaskChange struct {
	ID      string    // of the event
	At      asset.ECS // account, region, cluster, ARN of the task
	Cluster string    // ARN
	Time    string    // of the event, as it came
	Desired string    // RUNNING, STOPPED
	Last    string    // PROVISIONING, …, STOPPED
}

// Limits on what names something in a payload: AWS's own are shorter.
const (
	maxID   = 2 << 10
	maxURL  = 8 << 10 // presigned, with a session's token
	maxType = 256
)

// envelope is what tells the three apart, and what they have.
type envelope struct {
	// ECS's hook.
	ExecutionID      string `json:"executionId"`
	LifecycleStage   string `json:"lifecycleStage"`
	ExecutionDetails *struct {
		ServiceARN  string  `json:"serviceArn"`
		RevisionARN string  `json:"targetServiceRevisionArn"`
		Test        weights `json:"testTrafficWeights"`
		Production  weights `json:"productionTrafficWeights"`
	} `json:"executionDetails"`
	HookDetails json.RawMessage `json:"hookDetails"`
	// CloudFormation's.
	ClientRequestToken string `json:"clientRequestToken"` // the documentation has clientRequesttoken, too
	AccountID          string `json:"awsAccountId"`
	StackID            string `json:"stackId"`
	HookTypeName       string `json:"hookTypeName"`
	Point              string `json:"actionInvocationPoint"`
	RequestData        *struct {
		TargetName      string `json:"targetName"`
		TargetLogicalID string `json:"targetLogicalId"`
		Payload         string `json:"payload"`
		TargetModel     struct {
			Properties json.RawMessage `json:"resourceProperties"`
		} `json:"targetModel"`
	} `json:"requestData"`
	RequestContext struct {
		Invocation number `json:"invocation"`
	} `json:"requestContext"`
	// EventBridge's.
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Region     string          `json:"region"`
	Time       string          `json:"time"`
	Detail     json.RawMessage `json:"detail"`
}

// number is a whole number that may have been written as text. One that is neither is 0:
// what it says is worth less than the verdict that an unreadable payload would cost.
type number int

// UnmarshalJSON is part of json.Unmarshaler. It never fails.
func (n *number) UnmarshalJSON(b []byte) error {
	i, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 32)
	if err != nil {
		i = 0
	}
	*n = number(i)
	return nil
}

// weights are percent of the traffic by revision. Those that can't be read say
// nothing, as if none had been sent.
type weights map[string]float64

// UnmarshalJSON is part of json.Unmarshaler. It never fails.
func (w *weights) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	*w = weights{}
	if json.Unmarshal(b, &all) != nil {
		return nil
	}
	for arn, one := range all {
		f, err := strconv.ParseFloat(strings.Trim(string(one), `"`), 64)
		if err == nil {
			(*w)[arn] = f
		}
	}
	return nil
}

// Read recognises what an invocation asks. A payload that is none of the three, or
// that is wrong in what matters, is an error of the kind Invalid.
func Read(payload []byte) (Event, error) {
	var e envelope
	if err := json.Unmarshal(payload, &e); err != nil {
		return Event{}, unknown("it is not read: %w", err)
	}
	service, template, task := e.ExecutionDetails != nil, e.RequestData != nil, e.DetailType != "" || e.Detail != nil
	switch {
	case service && !template && !task:
		s, err := e.service()
		return Event{Service: s}, err
	case template && !service && !task:
		t, err := e.template()
		return Event{Template: t}, err
	case task && !service && !template:
		t, err := e.task()
		return Event{Task: t}, err
	}
	return Event{}, unknown("it is neither of ECS's deployment hook, nor of CloudFormation's hook, nor an event of EventBridge")
}

func unknown(format string, args ...any) error {
	return fault.New(fault.Invalid, "read payload: "+format, args...).
		With("let ECS's lifecycle hooks, CloudFormation's Lambda hooks and EventBridge's rule for ECS Task State Change call this function, and nobody else")
}

func (e *envelope) service() (*ServiceHook, error) {
	d := e.ExecutionDetails
	at, ok := asset.ParseServiceARN(d.ServiceARN)
	if !ok {
		return nil, unknown("serviceArn %.200q is no ARN of a service", d.ServiceARN)
	}
	revision, ok := asset.ParseServiceARN(d.RevisionARN)
	if !ok || !strings.Contains(d.RevisionARN, ":service-revision/") {
		return nil, unknown("targetServiceRevisionArn %.200q is no ARN of a service's revision", d.RevisionARN)
	}
	if at.Cluster == "" { // of the old form
		at.Cluster = revision.Cluster
	}
	if revision != at {
		return nil, unknown("the revision %.200q is not of the service %.200q", d.RevisionARN, d.ServiceARN)
	}
	if len(e.ExecutionID) > maxID || len(e.LifecycleStage) > maxType {
		return nil, unknown("its ids are too long")
	}
	s := &ServiceHook{Execution: e.ExecutionID, Stage: e.LifecycleStage, Revision: d.RevisionARN, At: at}
	switch e.LifecycleStage {
	case "PRODUCTION_TRAFFIC_SHIFT":
		s.Back = goesBack(d.Production, d.RevisionARN)
	case "TEST_TRAFFIC_SHIFT":
		s.Back = goesBack(d.Test, d.RevisionARN)
	}
	if json.Unmarshal(e.HookDetails, &s.Details) == nil { // users may have configured anything
		var n int
		if json.Unmarshal(s.Details[askedDetail], &n) == nil {
			s.Asked = min(max(n, 0), maxAsks)
		}
	}
	return s, nil
}

// goesBack says whether traffic is moved away from the revision: what ECS calls
// for while it rolls back. Only the stages at which traffic shifts are called for
// then; before them a revision that is not deployed yet has the same weights.
func goesBack(all weights, revision string) bool {
	own, ok := all[revision]
	if !ok || own != 0 {
		return false
	}
	for arn, w := range all {
		if arn != revision && w == 100 {
			return true
		}
	}
	return false
}

func (e *envelope) template() (*TemplateHook, error) {
	d := e.RequestData
	t := &TemplateHook{Token: e.ClientRequestToken, Account: e.AccountID, Stack: e.StackID, Point: e.Point,
		Name: d.TargetLogicalID, Model: d.TargetModel.Properties, Payload: d.Payload, Asked: max(int(e.RequestContext.Invocation), 1)}
	for _, s := range []string{t.Token, t.Account, t.Stack, t.Point, t.Name} {
		if len(s) > maxID {
			return nil, unknown("its ids are too long")
		}
	}
	switch d.TargetName {
	case string(TargetStack), string(TargetChangeSet):
		t.Kind = TargetKind(d.TargetName)
		if len(d.Payload) > maxURL {
			return nil, unknown("the address of its template is too long")
		}
	default:
		if !strings.Contains(d.TargetName, "::") || len(d.TargetName) > maxType {
			return nil, unknown("targetName %.200q is neither STACK, CHANGE_SET nor a type of resources", d.TargetName)
		}
		t.Kind, t.Type = TargetResource, d.TargetName
	}
	return t, nil
}

func (e *envelope) task() (*TaskChange, error) {
	if e.DetailType != "ECS Task State Change" || e.Source != "aws.ecs" {
		return nil, unknown("an event %.100q of %.100q", e.DetailType, e.Source)
	}
	var d struct {
		ClusterARN string `json:"clusterArn"`
		TaskARN    string `json:"taskArn"`
		Desired    string `json:"desiredStatus"`
		Last       string `json:"lastStatus"`
	}
	if err := json.Unmarshal(e.Detail, &d); err != nil {
		return nil, unknown("its detail is not read: %w", err)
	}
	at, ok := asset.ParseTaskARN(d.TaskARN)
	cluster := asset.ClusterName(d.ClusterARN)
	if !ok || cluster == "" || !strings.HasPrefix(d.ClusterARN, "arn:") {
		return nil, unknown("taskArn %.200q and clusterArn %.200q are no ARNs of a task and its cluster", d.TaskARN, d.ClusterARN)
	}
	if at.Cluster == "" { // of the old form
		at.Cluster = cluster
	}
	if at.Cluster != cluster || at.Account != e.Account || at.Region != e.Region || !strings.Contains(d.ClusterARN, ":"+at.Region+":"+at.Account+":") {
		return nil, unknown("the task %.200q is not of the cluster, account and region that the event tells", d.TaskARN)
	}
	if len(e.ID) > maxID || len(e.Time) > maxType || len(d.Desired) > maxType || len(d.Last) > maxType {
		return nil, unknown("its ids are too long")
	}
	return &TaskChange{ID: e.ID, At: at, Cluster: d.ClusterARN, Time: e.Time, Desired: d.Desired, Last: d.Last}, nil
}
