/** Everything the worker registers as a workflow. */
export { contactWorkflow } from './contact-workflow.ts';
