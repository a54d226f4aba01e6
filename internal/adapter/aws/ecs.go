package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

// Permissions of ECS, as remedies name them.
const (
	mayReadRevision   = "ecs:DescribeServiceRevisions on the service's revisions"
	mayReadService    = "ecs:DescribeServices on the service"
	mayReadCluster    = "ecs:DescribeClusters on the cluster"
	mayReadDefinition = "ecs:DescribeTaskDefinition on all resources"
	mayReadTask       = "ecs:DescribeTasks on the cluster's tasks"
	mayStopTask       = "ecs:StopTask on the cluster's tasks"
)

// ECS tells what services and tasks are made of, and stops tasks, in the region of
// the environment. It can be used by several goroutines.
type ECS struct{ session session }

// NewECS returns the door. It asks nobody yet.
func NewECS(log *slog.Logger) *ECS { return &ECS{session{log: log}} }

func (e *ECS) api(ctx context.Context) (*ecs.Client, error) {
	config, err := e.session.open(ctx)
	if err != nil {
		return nil, err
	}
	return ecs.NewFromConfig(config), nil
}

// described is a template of CloudFormation, which has a name for all that a task
// is made of; its properties are those of ECS's interface, which differ in case
// alone.
type described map[string]describedResource

type describedResource struct {
	Type       string
	Properties any
}

// Logical ids of what is described.
const (
	taskID    = "Task"
	serviceID = "Service"
	clusterID = "Cluster"
)

func (d described) document(name string, digests map[string]string) (admission.Document, error) {
	b, err := json.Marshal(map[string]any{"Resources": d})
	if err != nil {
		return admission.Document{}, fmt.Errorf("describe %s: %w", name, err)
	}
	return admission.Document{Name: name, Body: b, Digests: digests}, nil
}

// Revision describes a service's revision: its task definition, with the digests
// that ECS has settled on, its service and its cluster. It needs the permissions
// to describe each of these.
func (e *ECS) Revision(ctx context.Context, arn string) (admission.Document, error) {
	what := "describe service revision " + arn
	api, err := e.api(ctx)
	if err != nil {
		return admission.Document{}, fmt.Errorf("%s: %w", what, err)
	}
	within, cancel := request(ctx)
	defer cancel()
	out, err := api.DescribeServiceRevisions(within, &ecs.DescribeServiceRevisionsInput{ServiceRevisionArns: []string{arn}})
	if err != nil {
		return admission.Document{}, refusedECS(what, err, mayReadRevision)
	}
	if len(out.ServiceRevisions) != 1 || sdk.ToString(out.ServiceRevisions[0].TaskDefinition) == "" {
		return admission.Document{}, fault.New(fault.NotFound, "%s: there is none%s", what, failuresOf(out.Failures)).With("is it in this account and region?")
	}
	r := &out.ServiceRevisions[0]
	d := described{}
	if err := e.definition(ctx, api, *r.TaskDefinition, nil, d); err != nil {
		return admission.Document{}, err
	}
	if err := e.service(ctx, api, r, d); err != nil {
		return admission.Document{}, err
	}
	digests := map[string]string{}
	for _, i := range r.ContainerImages {
		if digest := sdk.ToString(i.ImageDigest); digest != "" {
			digests[sdk.ToString(i.ContainerName)] = digest
		}
	}
	return d.document(sdk.ToString(r.TaskDefinition), digests)
}

// service adds a revision's service and cluster. What of a service belongs to the
// revision is the revision's: the service may have another one already.
func (e *ECS) service(ctx context.Context, api *ecs.Client, r *types.ServiceRevision, d described) error {
	what := "describe service " + sdk.ToString(r.ServiceArn)
	within, cancel := request(ctx)
	defer cancel()
	out, err := api.DescribeServices(within, &ecs.DescribeServicesInput{Cluster: r.ClusterArn, Services: []string{sdk.ToString(r.ServiceArn)}})
	if err != nil {
		return refusedECS(what, err, mayReadService)
	}
	if len(out.Services) != 1 {
		return fault.New(fault.NotFound, "%s: there is none%s", what, failuresOf(out.Failures)).With("is it in this account and region?")
	}
	s := &out.Services[0]
	d[serviceID] = describedResource{"AWS::ECS::Service", map[string]any{
		"ServiceName": s.ServiceName, "Cluster": s.ClusterArn, "DesiredCount": s.DesiredCount, "EnableExecuteCommand": s.EnableExecuteCommand,
		"DeploymentController": s.DeploymentController, "DeploymentConfiguration": s.DeploymentConfiguration, "SchedulingStrategy": s.SchedulingStrategy,
		"LaunchType": r.LaunchType, "CapacityProviderStrategy": r.CapacityProviderStrategy, "NetworkConfiguration": r.NetworkConfiguration,
		"PlatformVersion": r.PlatformVersion, "TaskDefinition": map[string]string{"Ref": taskID},
	}}
	return e.cluster(ctx, api, sdk.ToString(r.ClusterArn), d)
}

func (e *ECS) cluster(ctx context.Context, api *ecs.Client, arn string, d described) error {
	what := "describe cluster " + arn
	within, cancel := request(ctx)
	defer cancel()
	out, err := api.DescribeClusters(within, &ecs.DescribeClustersInput{Clusters: []string{arn},
		Include: []types.ClusterField{types.ClusterFieldSettings, types.ClusterFieldConfigurations}})
	if err != nil {
		return refusedECS(what, err, mayReadCluster)
	}
	if len(out.Clusters) != 1 {
		return fault.New(fault.NotFound, "%s: there is none%s", what, failuresOf(out.Failures)).With("is it in this account and region?")
	}
	c := &out.Clusters[0]
	d[clusterID] = describedResource{"AWS::ECS::Cluster", map[string]any{"ClusterName": c.ClusterName, "ClusterSettings": c.Settings, "Configuration": c.Configuration}}
	return nil
}

// Definition describes a task definition, by its ARN or as FAMILY:REVISION.
func (e *ECS) Definition(ctx context.Context, name string) (admission.Document, error) {
	api, err := e.api(ctx)
	if err != nil {
		return admission.Document{}, fmt.Errorf("describe task definition %s: %w", name, err)
	}
	d := described{}
	if err := e.definition(ctx, api, name, nil, d); err != nil {
		return admission.Document{}, err
	}
	return d.document(name, nil)
}

// definition adds a task definition, with what is overridden.
func (e *ECS) definition(ctx context.Context, api *ecs.Client, name string, over *types.TaskOverride, d described) error {
	what := "describe task definition " + name
	within, cancel := request(ctx)
	defer cancel()
	out, err := api.DescribeTaskDefinition(within, &ecs.DescribeTaskDefinitionInput{TaskDefinition: sdk.String(name)})
	if err != nil {
		return refusedECS(what, err, mayReadDefinition)
	}
	if out.TaskDefinition == nil {
		return fault.New(fault.NotFound, "%s: there is none", what).With("is it in this account and region?")
	}
	if over != nil {
		override(out.TaskDefinition, over)
	}
	d[taskID] = describedResource{"AWS::ECS::TaskDefinition", out.TaskDefinition}
	return nil
}

// override changes a definition as whoever started the task wanted it.
func override(t *types.TaskDefinition, over *types.TaskOverride) {
	if over.TaskRoleArn != nil {
		t.TaskRoleArn = over.TaskRoleArn
	}
	if over.ExecutionRoleArn != nil {
		t.ExecutionRoleArn = over.ExecutionRoleArn
	}
	if over.Cpu != nil {
		t.Cpu = over.Cpu
	}
	if over.Memory != nil {
		t.Memory = over.Memory
	}
	for _, o := range over.ContainerOverrides {
		i := slices.IndexFunc(t.ContainerDefinitions, func(c types.ContainerDefinition) bool { return sdk.ToString(c.Name) == sdk.ToString(o.Name) })
		if i < 0 {
			continue
		}
		c := &t.ContainerDefinitions[i]
		if len(o.Command) > 0 {
			c.Command = o.Command
		}
		for _, v := range o.Environment {
			c.Environment = slices.DeleteFunc(c.Environment, func(old types.KeyValuePair) bool { return sdk.ToString(old.Name) == sdk.ToString(v.Name) })
			c.Environment = append(c.Environment, v)
		}
		c.EnvironmentFiles = append(c.EnvironmentFiles, o.EnvironmentFiles...)
		if o.Memory != nil {
			c.Memory = o.Memory
		}
		if o.MemoryReservation != nil {
			c.MemoryReservation = o.MemoryReservation
		}
		if o.Cpu != nil {
			c.Cpu = *o.Cpu
		}
	}
}

// Task describes a task as it is now: its definition with what was overridden when
// it was started, and the digests of the images that it has. group is what started
// it, "service:web" or "family:web". A task that has ended or is ending is of the
// kind NotFound.
func (e *ECS) Task(ctx context.Context, cluster, arn string) (_ admission.Document, group string, _ error) {
	api, err := e.api(ctx)
	if err != nil {
		return admission.Document{}, "", fmt.Errorf("describe task %s: %w", arn, err)
	}
	t, err := running(ctx, api, cluster, arn)
	if err != nil {
		return admission.Document{}, "", err
	}
	d := described{}
	if err := e.definition(ctx, api, sdk.ToString(t.TaskDefinitionArn), t.Overrides, d); err != nil {
		return admission.Document{}, "", err
	}
	if t.EnableExecuteCommand { // what a service says of its tasks, a task has itself
		d[serviceID] = describedResource{"AWS::ECS::Service", map[string]any{"Cluster": t.ClusterArn, "EnableExecuteCommand": true,
			"LaunchType": t.LaunchType, "TaskDefinition": map[string]string{"Ref": taskID}}}
	}
	digests := map[string]string{}
	for _, c := range t.Containers {
		if digest := sdk.ToString(c.ImageDigest); digest != "" {
			digests[sdk.ToString(c.Name)] = digest
		}
	}
	doc, err := d.document(sdk.ToString(t.TaskDefinitionArn), digests)
	return doc, sdk.ToString(t.Group), err
}

// running describes a task that goes on.
func running(ctx context.Context, api *ecs.Client, cluster, arn string) (*types.Task, error) {
	what := "describe task " + arn
	within, cancel := request(ctx)
	defer cancel()
	out, err := api.DescribeTasks(within, &ecs.DescribeTasksInput{Cluster: sdk.String(cluster), Tasks: []string{arn}}, lenient)
	if err != nil {
		return nil, refusedECS(what, err, mayReadTask)
	}
	if len(out.Tasks) != 1 || sdk.ToString(out.Tasks[0].DesiredStatus) == "STOPPED" {
		return nil, fault.New(fault.NotFound, "%s: there is none that goes on%s", what, failuresOf(out.Failures))
	}
	return &out.Tasks[0], nil
}

// Runs returns nil for a task that goes on, and otherwise an error: NotFound when it has
// ended or is ending, or there is none.
func (e *ECS) Runs(ctx context.Context, cluster, arn string) error {
	api, err := e.api(ctx)
	if err != nil {
		return fmt.Errorf("describe task %s: %w", arn, err)
	}
	_, err = running(ctx, api, cluster, arn)
	return err
}

// Stop stops a task, with the reason for people.
func (e *ECS) Stop(ctx context.Context, cluster, task, reason string) error {
	what := "stop task " + task
	api, err := e.api(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	within, cancel := request(ctx)
	defer cancel()
	if _, err := api.StopTask(within, &ecs.StopTaskInput{Cluster: sdk.String(cluster), Task: sdk.String(task), Reason: sdk.String(reason)}, lenient); err != nil {
		return refusedECS(what, err, mayStopTask)
	}
	return nil
}

// refusedECS gives an error of ECS its kind and remedy. It has no word of its own
// for a task or a definition that is not there.
func refusedECS(what string, err error, permissions string) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "ClientException", "InvalidParameterException", "ClusterNotFoundException", "ServiceNotFoundException":
			said := oneLine(fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage()))
			return fault.New(fault.NotFound, "%s: %w", what, said).With("is it in this account and region, and still there?")
		}
	}
	return refused(what, err, permissions, "ecs")
}

// failuresOf is what ECS says of what it did not find.
func failuresOf(all []types.Failure) string {
	if len(all) == 0 {
		return ""
	}
	return " (" + oneLine(fmt.Errorf("%s", strings.TrimSpace(sdk.ToString(all[0].Reason)+" "+sdk.ToString(all[0].Detail)))).Error() + ")"
}
