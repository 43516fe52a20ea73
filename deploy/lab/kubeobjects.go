package lab

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"net/netip"

	"sigs.k8s.io/yaml"

	"github.com/parallax-flow/parallax/internal/kubetest/apiserver"
)

// kubeRole is the ClusterRole of docs/install.md.
//
//go:embed kuberole.yaml
var kubeRole []byte

// object is one of the Kubernetes API, as JSON has it.
type object = map[string]any

const coreAPI, appsAPI, rbacAPI = "/api/v1/", "/apis/apps/v1/", "/apis/rbac.authorization.k8s.io/v1/"

// create writes all that a cluster with the lab's pods would have: what controllers and kubelets, which there are none of,
// would have written, too.
func (k *kube) create(ctx context.Context, l *Layout) error {
	steps := []func(context.Context, *Layout) error{k.createRole, k.createNodes, k.createNamespaces, k.createWorkloads, k.createServices, k.createPolicies}
	for _, step := range steps {
		if err := step(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func (k *kube) createRole(ctx context.Context, _ *Layout) error {
	code, answer, err := k.Do(ctx, http.MethodPost, rbacAPI+"clusterroles", "application/yaml", kubeRole)
	if err == nil && code != http.StatusCreated {
		err = fmt.Errorf("%d %s", code, answer)
	}
	if err != nil {
		return fmt.Errorf("create the ClusterRole: %w", err)
	}
	_, err = k.Create(ctx, rbacAPI+"clusterrolebindings", object{
		"metadata": object{"name": "parallax"},
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "parallax"},
		"subjects": []any{object{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": apiserver.User}},
	})
	return err
}

func (k *kube) createNodes(ctx context.Context, l *Layout) error {
	for _, n := range l.Nodes {
		var addresses []any
		for _, a := range []netip.Addr{n.Addr, n.Addr6, hostAddr(n.PodNet, 1)} {
			addresses = append(addresses, object{"type": "InternalIP", "address": a.String()})
		}
		if _, err := k.Create(ctx, coreAPI+"nodes", object{
			"metadata": object{"name": n.Name, "labels": object{"kubernetes.io/hostname": n.Name}},
			"spec":     object{"podCIDR": n.PodNet.String(), "podCIDRs": []any{n.PodNet.String(), n.PodNet6.String()}},
			"status":   object{"addresses": addresses},
		}); err != nil {
			return err
		}
	}
	return nil
}

func (k *kube) createNamespaces(ctx context.Context, l *Layout) error {
	seen := map[string]bool{}
	for i := range l.Pods {
		name := l.Pods[i].Namespace
		if seen[name] {
			continue
		}
		seen[name] = true
		if _, err := k.Create(ctx, coreAPI+"namespaces", object{"metadata": object{"name": name}}); err != nil {
			return err
		}
	}
	return nil
}

// createWorkloads makes the pods and what they belong to: a Deployment with its ReplicaSet, or a StatefulSet.
func (k *kube) createWorkloads(ctx context.Context, l *Layout) error {
	owners := map[string]object{}
	for i := range l.Pods {
		p := &l.Pods[i]
		if owners[p.Key()] == nil {
			owner, err := k.createOwner(ctx, p)
			if err != nil {
				return err
			}
			owners[p.Key()] = owner
		}
		if err := k.createPod(ctx, l, p, owners[p.Key()]); err != nil {
			return err
		}
	}
	return nil
}

// createOwner makes what p belongs to and returns how p refers to it.
func (k *kube) createOwner(ctx context.Context, p *Endpoint) (object, error) {
	labels := object{"app": p.Labels["app"], "tier": p.Labels["tier"]}
	spec := object{
		"selector": object{"matchLabels": object{"app": p.Labels["app"]}},
		"template": object{"metadata": object{"labels": labels}, "spec": object{"containers": p.containers()}},
	}
	kind, collection := p.WorkloadKind, map[string]string{"Deployment": "deployments", "StatefulSet": "statefulsets"}[p.WorkloadKind]
	if kind == "StatefulSet" {
		spec["serviceName"] = p.Workload
	}
	own := appsAPI + "namespaces/" + p.Namespace + "/"
	uid, err := k.Create(ctx, own+collection, object{"metadata": object{"name": p.Workload, "labels": labels}, "spec": spec})
	ref := ownerRef(kind, p.Workload, uid)
	if err != nil || kind != "Deployment" {
		return ref, err
	}
	hash := p.Labels["pod-template-hash"]
	with := object{"app": p.Labels["app"], "tier": p.Labels["tier"], "pod-template-hash": hash}
	name := p.Workload + "-" + hash
	uid, err = k.Create(ctx, own+"replicasets", object{
		"metadata": object{"name": name, "labels": with, "ownerReferences": []any{ref}},
		"spec": object{
			"selector": object{"matchLabels": object{"app": p.Labels["app"], "pod-template-hash": hash}},
			"template": object{"metadata": object{"labels": with}, "spec": object{"containers": p.containers()}},
		},
	})
	return ownerRef("ReplicaSet", name, uid), err
}

func ownerRef(kind, name, uid string) object {
	return object{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true}
}

// createPod makes a pod that runs on its node already.
func (k *kube) createPod(ctx context.Context, l *Layout, p *Endpoint, owner object) error {
	pods := coreAPI + "namespaces/" + p.Namespace + "/pods"
	if _, err := k.Create(ctx, pods, object{
		"metadata": object{"name": p.Name, "labels": p.Labels, "ownerReferences": []any{owner}},
		"spec":     object{"nodeName": p.Node, "containers": p.containers()},
	}); err != nil {
		return err
	}
	node := l.node(p.Node)
	return k.Patch(ctx, pods+"/"+p.Name+"/status", object{"status": object{
		"phase": "Running", "hostIP": node.Addr.String(), "hostIPs": addresses(node.Addr, node.Addr6),
		"podIP": p.Addr.String(), "podIPs": addresses(p.Addr, p.Addr6), "conditions": []any{object{"type": "Ready", "status": "True"}},
		"containerStatuses": []any{object{
			"name": p.Workload, "image": p.image(), "imageID": "", "ready": true, "restartCount": 0, "state": object{"running": object{}},
		}},
	}})
}

func addresses(list ...netip.Addr) (out []any) {
	for _, a := range list {
		out = append(out, object{"ip": a.String()})
	}
	return out
}

func (p *Endpoint) containers() []any {
	var ports []any
	for _, port := range p.Ports {
		ports = append(ports, object{"name": port.Name, "containerPort": port.Number, "protocol": port.Proto})
	}
	return []any{object{"name": p.Workload, "image": p.image(), "ports": ports}}
}

func (p *Endpoint) image() string { return "lab/" + p.Role }

// createServices makes a headless service for each workload with ports, and its EndpointSlices, one for each family.
func (k *kube) createServices(ctx context.Context, l *Layout) error {
	pods, order := map[string][]*Endpoint{}, []string(nil)
	for i := range l.Pods {
		if p := &l.Pods[i]; len(p.Ports) > 0 {
			if pods[p.Key()] == nil {
				order = append(order, p.Key())
			}
			pods[p.Key()] = append(pods[p.Key()], p)
		}
	}
	for _, key := range order {
		if err := k.createService(ctx, pods[key]); err != nil {
			return err
		}
	}
	return nil
}

func (k *kube) createService(ctx context.Context, pods []*Endpoint) error {
	p := pods[0]
	var ports, slicePorts []any
	for _, port := range p.Ports {
		ports = append(ports, object{"name": port.Name, "port": port.Number, "targetPort": port.Name, "protocol": port.Proto})
		slicePorts = append(slicePorts, object{"name": port.Name, "port": port.Number, "protocol": port.Proto})
	}
	labels := object{"app": p.Workload}
	if _, err := k.Create(ctx, coreAPI+"namespaces/"+p.Namespace+"/services", object{
		"metadata": object{"name": p.Workload, "labels": labels},
		"spec":     object{"clusterIP": "None", "selector": labels, "ports": ports},
	}); err != nil {
		return err
	}
	for family, addr := range map[string]func(*Endpoint) netip.Addr{
		"IPv4": func(p *Endpoint) netip.Addr { return p.Addr }, "IPv6": func(p *Endpoint) netip.Addr { return p.Addr6 },
	} {
		var endpoints []any
		for _, p := range pods {
			endpoints = append(endpoints, object{
				"addresses": []any{addr(p).String()}, "nodeName": p.Node, "conditions": object{"ready": true},
				"targetRef": object{"kind": "Pod", "namespace": p.Namespace, "name": p.Name},
			})
		}
		if _, err := k.Create(ctx, "/apis/discovery.k8s.io/v1/namespaces/"+p.Namespace+"/endpointslices", object{
			"metadata": object{"generateName": p.Workload + "-", "labels": object{
				"kubernetes.io/service-name": p.Workload, "endpointslice.kubernetes.io/managed-by": "lab.parallax",
			}},
			"addressType": family, "endpoints": endpoints, "ports": slicePorts,
		}); err != nil {
			return err
		}
	}
	return nil
}

// createPolicies writes those of Policies.
func (k *kube) createPolicies(ctx context.Context, _ *Layout) error {
	for _, doc := range bytes.Split(policies, []byte("\n---\n")) {
		var o object
		if err := yaml.Unmarshal(doc, &o); err != nil {
			return fmt.Errorf("the lab's policies: %w", err)
		}
		metadata, _ := o["metadata"].(object)
		if _, err := k.Create(ctx, fmt.Sprintf("/apis/networking.k8s.io/v1/namespaces/%v/networkpolicies", metadata["namespace"]), o); err != nil {
			return err
		}
	}
	return nil
}
