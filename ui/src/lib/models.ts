/** What is said about a model, in whichever window it is shown. */
import type { ModelInfo, ModelKind } from '../contract/contract';

export const KIND: Record<ModelKind, string> = {
  checkpoint: 'safetensors',
  mlx_checkpoint: 'MLX',
  gguf: 'GGUF',
  core_ml_package: 'Core ML',
  compiled_core_ml: 'compiled Core ML',
};

/** Whether it can be made active: one that failed its self-test never is, and one whose files are gone cannot be. */
export function isUsable({ health }: ModelInfo): boolean {
  return health.health !== 'quarantined' && health.health !== 'missing';
}

/** Whether other precisions can be made of it. */
export function isConvertible(model: ModelInfo): boolean {
  return isUsable(model) && (model.kind === 'checkpoint' || model.kind === 'mlx_checkpoint');
}
